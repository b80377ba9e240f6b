"""What the engine says before a step that may not touch a resource: refusals to act on.

Keeps: each names the resource, who has it, and the move that would mend the plan.
"""

from __future__ import annotations

from collections.abc import Iterable

from undercroft.model.step import Refusal


def stale(tool: str, key: str, was: object, now: object, by: str) -> Refusal:
    """Return the refusal of a write that rests on what is true no more."""
    who = f"turn {by}" if by else "somebody else"
    return Refusal(
        rule="conflicts.stale_write",
        message=f"{tool} rests on a state of {key or 'everything'} that {who} has changed since.",
        next="Look at the fresh value, and propose the call again if it is still right.",
        facts={"key": key, "seen": was, "fresh": now, "by": by},
    )


def dirty(tool: str, key: str, by: str, readers: Iterable[str]) -> Refusal:
    """Return the refusal of a write to what another turn left in the middle of a write."""
    names = list(readers)
    read = f"Read it first with {' or '.join(names)}" if names else "Read it first"
    return Refusal(
        rule="conflicts.dirty",
        message=f"Turn {by} was cut off while it wrote {key or 'everything'}; whether that "
        "happened is not known.",
        next=f"{read}, or have turn {by} resumed; then propose {tool} again.",
        facts={"key": key, "by": by, "readers": names},
    )


def unreadable(tool: str, key: str, error: str) -> Refusal:
    """Return the refusal of a write whose resource could not be read again."""
    return Refusal(
        rule="conflicts.unverified",
        message=f"{key or 'What it writes'} may have changed, and reading it again failed: "
        f"{error}.",
        next=f"Read it, then propose {tool} again.",
        facts={"key": key, "error": error},
    )


def owned(tool: str, key: str, owner: str, waited_s: float, *, ring: bool) -> Refusal:
    """Return the refusal of a write to what another turn owns."""
    how = "waiting for it could go round in a ring" if ring else f"{waited_s:.3g} s did not free it"
    return Refusal(
        rule="conflicts.owned",
        message=f"{tool} writes {key or 'everything'}, which turn {owner} owns; {how}.",
        next="Do something else first and propose it again, or tell the user that it is in use.",
        facts={"key": key, "owner": owner, "waited_s": waited_s},
    )


def busy(tool: str, claim: str, behind: str, waited_s: float) -> Refusal:
    """Return the refusal of a call that waited too long for what others were using."""
    return Refusal(
        rule="conflicts.busy",
        message=f"{tool} waited {waited_s:.3g} s for {claim}, which {behind or 'another turn'} "
        "was using.",
        next="Propose it again later.",
        facts={"claim": claim, "behind": behind, "waited_s": waited_s},
    )


def owned_by_branch(tool: str, key: str, owner: str, asker: str) -> Refusal:
    """Return the refusal of a write to what another branch of the turn owns."""
    mine, theirs = asker or "the turn itself", owner or "the turn itself"
    return Refusal(
        rule="conflicts.owned_by_branch",
        message=f"{tool} writes {key}, which {theirs} owns; {mine} was not handed it.",
        next="Leave this resource to its owner, and say so in the result.",
        facts={"key": key, "owner": owner, "branch": asker},
    )
