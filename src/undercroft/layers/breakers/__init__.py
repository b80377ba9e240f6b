"""Breakers: every call has a budget and an exit.

Its own files: `service.py`, all that may be said of what is called; `window.py`, what calls of
late came to, and `suspect.py`, whether that changed; `classes.py`, what an error means, with
`evidence.py`, `known.py`, `hints.py` and `bodies.py` of what services and their clients say;
`waits.py`, when to try again; `adaptive.py`, how many calls at once; `spend.py`, budgets, and
`prices.py`; `loops.py`, who goes round in circles; `exits.py`, what is missing when nothing helped;
`board.py`, how every service stands. For symptoms: `foreign.py`, how others' breakers show,
and `endings.py`, how runs end.
"""
