"""The sendward command."""
