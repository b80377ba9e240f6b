"""Conflicts: every shared resource is named, and only one turn or step at a time changes it.

Its own files: `keys.py`, the paths that name resources; `resource.py`, other spellings of one;
`matrix.py`, which modes go together; `tree.py`, who is in whose way; `ownership.py`, who
owns what for the time of a turn;
`branches.py`, and which branch of it; `versions.py`, what a turn knows of what it read;
`strength.py`, how a lapsed owner is kept out; `races.py`, what could go wrong in a graph.
What did go wrong in a journal is found by `audit.py`, over `history.py`, `timeline.py`,
`holds.py`, `rests.py`, `precedence.py` and `anomalies.py`.
"""
