"""Parallelism: what has nothing to do with each other runs together, the rest in order."""
