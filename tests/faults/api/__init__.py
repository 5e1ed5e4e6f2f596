"""Faults of the API server's side, on the real servers and the whole installation."""
