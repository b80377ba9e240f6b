"""How answers become messages: ids for their calls."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import msgspec

from undercroft.model.message import Answer
from undercroft.model.step import Call

NONE: frozenset[str] = frozenset()


def named_calls(answer: Answer, step: int, taken: AbstractSet[str] = NONE, turn: int = 0) -> Answer:
    """Return `answer` with an id for every call, so that results can be told apart.

    An id that is absent, or given twice, is replaced by one made of the step and the position.

    Args:
        answer: As the provider gave it.
        step: Number of the step that it came of.
        taken: Ids of earlier calls of the conversation.
        turn: Number of the turn in its session.
    """
    seen: set[str] = set()
    calls: list[Call] = []
    made = f"call-{turn}-{step}" if turn else f"call-{step}"
    for place, call in enumerate(answer.calls):
        call_id = call.id or f"{made}-{place}"
        if call_id in seen or call_id in taken:
            call_id = f"{made}-{place}"
        while call_id in seen or call_id in taken:  # the provider chose the very same
            call_id += "-again"
        seen.add(call_id)
        calls.append(call if call_id == call.id else msgspec.structs.replace(call, id=call_id))
    return msgspec.structs.replace(answer, calls=tuple(calls))
