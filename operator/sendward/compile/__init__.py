"""Effective policies to data: documents, objects, steps, statuses. Pure."""
