"""The decision process of the sidecar: authenticates, limits and judges every message."""
