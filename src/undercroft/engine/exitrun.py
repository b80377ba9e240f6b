"""When nothing helped: calling what stands in for a step that came to nothing.

Keeps: what stands in is a step of its own, with an intent of its own where it writes; what
failed twice says both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from undercroft.engine.codec import encode
from undercroft.engine.memo import Record
from undercroft.engine.standin import StandIn
from undercroft.engine.step import Ended, Step, end_of
from undercroft.engine.turnrun import TurnRun
from undercroft.layers.breakers.exits import in_words
from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.model.step import FALLBACK, StepStatus


class ExitRun(TurnRun):
    """What of a turn's life finds a way out."""

    def standing_in(self, step: Step, stand_in: StandIn, given: Mapping[str, Any]) -> Step:
        """Return what stands in for `step`, which was given arguments, as a step.

        Raises:
            KeyProblem: The arguments name no resource.
        """
        kwargs = {p: given[p] for p in stand_in.parameters if p in given}
        declared = stand_in.declared.under(self.resources)
        claims = declared.pairs({**stand_in.defaults, **kwargs})
        return Step(
            0,
            step.name + FALLBACK,
            stand_in.body,
            "fallback",
            kwargs,
            step.fp,
            (step.n,),
            claims,
            msgspec.Raw(encode(kwargs)),
            None,
            claims + declared.implicit,
            step.branch,
        )

    async def fall_back(
        self,
        step: Step,
        stand_in: StandIn,
        given: Mapping[str, Any],
        ended: Ended,
        record: Record | None,
    ) -> tuple[Step, Ended]:
        """Call what stands in for `step`, which came to nothing; return how that ended.

        Args:
            step: What came to nothing.
            stand_in: What is called.
            given: The arguments of `step`, by name.
            ended: How it did.
            record: Of what stood in for it in an earlier life.
        """
        try:
            other = self.standing_in(step, stand_in, given)
        except KeyProblem as problem:
            return step, neither(ended, f"its fallback names no resource: {problem}")
        other = other._replace(n=record.n if record is not None else self.log.next_n())
        if record is not None and record.ended is not None:
            now = end_of(record.ended)
        else:
            now = await self.perform(other, record)
        if now.status is StepStatus.OK:
            # Read back also where it is at hand, so that a replay is given the very same.
            return other, now._replace(value=stand_in.decode(now.raw))
        if now.status is StepStatus.IN_DOUBT:
            return other, now
        return other, neither(ended, f"its fallback failed too: {in_words(now.error, now.refusal)}")


def neither(ended: Ended, why: str) -> Ended:
    """Return the end of a step for which nothing could stand in."""
    if ended.error is None:
        assert ended.refusal is not None  # noqa: S101  it came to nothing
        message = f"{ended.refusal.message} And {why}."
        return ended._replace(refusal=msgspec.structs.replace(ended.refusal, message=message))
    message = f"{ended.error.message} (and {why})"
    return ended._replace(error=msgspec.structs.replace(ended.error, message=message))
