"""Compacted: how it shows in a finished run that somebody made its window smaller.

Keeps: only what is said in the words of those who do it, at the beginning of a text, counts.
"""

from __future__ import annotations

import re

_HEAD_CHARS = 600
_MARK = re.compile(
    r"\A\W{0,12}(?:(?:this session is being continued from a previous conversation)"
    r"|(?:the |this |earlier |previous )?(?:conversation|context|history|messages?)"
    r"(?: history| so far| above)? (?:has|have|was|were) (?:been )?(?:automatically )?"
    r"(?:summari[sz]ed|compacted|condensed|truncated|compressed)"
    r"|(?:here is |below is |this is )?(?:a |the )?summary of "
    r"(?:the |our |this |earlier |previous )?"
    r"(?:conversation|chat|discussion|session|messages|history|context)"
    r"|(?:conversation|context|chat|session) (?:summary|compaction|compacted)\b"
    r"|summary of earlier|previous(?:ly)? conversation summary|compacted\b)",
    re.IGNORECASE,
)
_TAG = re.compile(r"\A\s{0,20}<(?:conversation_|context_)?summary>", re.IGNORECASE)


def is_summary(text: str) -> bool:
    """Say whether a text stands for what was left out of a conversation."""
    head = text[:_HEAD_CHARS]
    return _MARK.match(head) is not None or _TAG.match(head) is not None
