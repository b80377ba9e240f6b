"""Context: what the model sees is decided by rule, and nothing leaves it unseen.

A conversation and its prompt: `items.py`, `results.py`, `conversation.py`, `view.py`, `state.py`
(the window), `fold.py` (the window as a journal tells it), `loss.py`. What it weighs:
`counting.py`, `estimate.py`. What leaves it: `compaction.py`, `tombstone.py`, and summaries:
`summary.py`, `summary_record.py`, `summary_ask.py`, `summary_answer.py`, `summary_text.py`.
What must not be lost: `memory.py`, `ledger.py`, over `words.py`, `extract.py`, `ordinary.py`,
`facts.py`, `statements.py`, `listing.py`. How good it is: `quality.py`, `alarm.py`,
`observing.py`, `questions.py`, `slots.py`. Other people's messages: `alone.py`, `shapes.py`,
`foreign.py`, `pairing.py`, `media.py`, `openai_shape.py`, `anthropic_shape.py`,
`anthropic_view.py`, `tool_shapes.py`, `usage_shapes.py`. A session told: `story.py`,
`story_rows.py`.
"""
