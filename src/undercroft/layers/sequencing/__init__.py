"""Sequencing: a real dependency lives in the graph, not in the prompt."""
