"""Parallelism: what has nothing to do with each other runs together, the rest in order.

Its own file: `report.py`, how parallel a finished turn was.
"""
