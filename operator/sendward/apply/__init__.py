"""The only package that writes to the world: API server and Vault."""
