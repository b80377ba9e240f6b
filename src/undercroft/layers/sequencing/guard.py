"""What the engine asks before a proposed call: does this tool exist, and did a person agree?

Keeps: whatever may not run becomes a refusal that a model can act on; nothing is raised.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from undercroft.model.step import Refusal


def unknown_tool(name: str, known: Collection[str]) -> Refusal:
    """Return the refusal of a call to a tool that was not offered."""
    near = difflib.get_close_matches(name, known, n=1)
    offered = ", ".join(sorted(known)) or "none"
    return Refusal(
        rule="sequencing.unknown_tool",
        message=f"There is no tool {name[:80]!r}.",
        next=f"Did you mean {near[0]!r}?" if near else f"Choose one of: {offered}.",
        facts={"tools": sorted(known)},
    )


def rejected(tool: str, by: str, reason: str) -> Refusal:
    """Return the refusal of a call that a person said no to."""
    because = f": {reason}" if reason else ""
    return Refusal(
        rule="sequencing.rejected",
        message=f"{by} rejected {tool}{because}.",
        next="Do not propose the same again; say so to the user, or propose something else.",
        facts={"by": by, "reason": reason},
    )


def unusable_key(tool: str, problem: str) -> Refusal:
    """Return the refusal of a call whose arguments do not name a resource."""
    return Refusal(
        rule="sequencing.unusable_key",
        message=f"The arguments of {tool} name no resource: {problem}.",
        next=f"Propose {tool} again with a value that names one.",
    )


def batch_too_large(tool: str, size: int, limit: int) -> Refusal:
    """Return the refusal of a call beyond the size of a batch."""
    return Refusal(
        rule="sequencing.batch_too_large",
        message=f"{tool} was call number {size:,} or later of one batch; {limit:,} may run.",
        next="Propose fewer calls at once.",
        facts={"limit": limit},
    )
