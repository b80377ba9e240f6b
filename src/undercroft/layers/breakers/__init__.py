"""Breakers: every call has a retry budget and an exit."""
