"""What is applied to a cluster to install Sendward: pure builders of manifests."""
