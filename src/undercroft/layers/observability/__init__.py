"""Observability: any turn can be explained from its journal, without running it again.

What is never written: `redaction.py`, over `opened.py` and `lens.py` (where it looks, what for),
`named.py` (names that say so) and `annotated.py`; `sealing.py`, what is kept of it under a key.
What is asked of a record: `answers.py`, the six questions of an incident; `approvals.py`, what
people saw; `diff.py`, two turns beside each other; `sessions.py`, a session by its turns;
`search.py`, which turns say something; `news.py`, a journal as it grows. For symptoms: `claims.py`,
`sentences.py` and `wished.py`, what users were told was done.
"""
