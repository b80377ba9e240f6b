"""Summaries: asked for, checked before they are used, and shown as data."""
