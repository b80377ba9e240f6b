"""Sequencing: a real dependency lives in the graph, not in the prompt.

Its own files: `graph.py`, a workflow checked when it is built; `signature.py`, what a function
asks for; `fits.py`, whether types agree along an edge; `arguments.py`, what a model proposes;
`approval.py`, what a person agrees to. For symptoms: `shown.py`, what calls could have known, and
when; `early.py`, ids that were used before; `reads.py`, what they had looked at; `consent.py`,
whether somebody had agreed.
"""
