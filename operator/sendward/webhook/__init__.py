"""Pod injection: the mutating webhook, in a process of its own."""
