"""Context: what the model sees is decided by rule, and nothing leaves it unseen.

The window: `items.py`, `results.py`, `conversation.py`, `view.py`, `state.py`; `fold.py`, as a
journal tells it; `loss.py`, what it shows and what it does not. What it weighs: `counting.py`,
`estimate.py`. What leaves it: `compaction.py`, `tombstone.py`, `summaries`. What must not be
lost: `identifiers`; how good it is: `quality`; both behind `memory.py`. Other people's messages:
`shapes`, and `alone.py`, a window over them. A session told: `story.py`, `story_rows.py`. For
symptoms: `reasked.py`, `compacted.py`, `gone.py`, `cut.py`, `sizes.py`, what finished runs show of
windows.
"""
