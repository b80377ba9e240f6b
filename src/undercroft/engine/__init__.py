"""The engine: the only place where the six layers meet."""
