"""Observability: any turn can be explained from its journal, without running it again.

Besides the usual files: `answers.py`, the six questions of an incident and their answers.
"""
