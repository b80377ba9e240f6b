"""Observability: any turn can be explained from its journal, without running it again."""
