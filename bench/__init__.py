"""Undercroft measured against the least that plain Python needs for the same work."""
