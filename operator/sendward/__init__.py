"""Sendward: messaging security policy, enforced in Kubernetes."""
