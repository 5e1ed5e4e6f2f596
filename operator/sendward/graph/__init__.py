"""The policy graph: what was seen, who refers to whom, what applies. Pure but for the Store."""
