"""Conflicts: every shared resource is named, and only one step at a time changes it.

Its own file: `keys.py`, the paths that name resources.
"""
