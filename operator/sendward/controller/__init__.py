"""The operator process: watches, loop, hub, leadership."""
