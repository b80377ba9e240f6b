"""Adapters: libraries of others behind our ports, each imported only where it is asked for."""
