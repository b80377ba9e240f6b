"""Writes of which nobody can say whether they happened, and how that is found out.

Keeps: such a write is settled by a person's word, by its `verify`, or by doing it again under
its idempotency key; else it stays in doubt.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any, NamedTuple

import msgspec

from undercroft.engine.body import Verify
from undercroft.engine.callrun import CallRun
from undercroft.engine.codec import encode
from undercroft.engine.log import TurnLog
from undercroft.engine.step import AGAIN, Ended, Setting, Step
from undercroft.engine.threads import in_thread
from undercroft.model.event import NIL_BYTES, DoubtSettled
from undercroft.model.step import StepStatus

log = logging.getLogger(__name__)


class _Verdict(NamedTuple):
    """What a verify said of a write."""

    applied: bool
    value: Any = None


class DoubtRun(CallRun):
    """What of a turn's life settles its doubts."""

    def __init__(self, setting: Setting, log: TurnLog, turn_id: str, session: str | None) -> None:
        super().__init__(setting, log, turn_id, session)
        self.doubts: dict[int, Step] = {}
        # Writes that are done again although they may have happened, under their key.
        self.unsure: set[int] = set()

    async def settle(self, step: Step, said: DoubtSettled | None, *, live: bool) -> Ended | None:
        """Find out what became of a write; `AGAIN` where it may be done again.

        Returns None where only a person can say.

        Args:
            step: The write.
            said: A person's word, given while nobody ran the turn.
            live: Whether it was begun in this life, so that it may still be under way.
        """
        body = step.body
        # That it is repeated under its key is no word on whether it happened.
        if said is not None and said.applied is not None:
            if not said.applied:
                return AGAIN
            raw = bytes(said.value)
            return Ended(StepStatus.OK, None if raw == NIL_BYTES else body.decode(raw), raw)
        if body.verify is not None:
            answer = await self._verified(step, body.verify)
            # Just after a live failure the request may still be under way: then only "it
            # happened" is news, and "it did not" may be said too early.
            if answer is not None and (answer.applied or not live):
                ended = self.encoded(body, answer.value) if answer.applied else AGAIN
                self.unsure.discard(step.n)
                self._note_settled(
                    step, "verify", body.verify.name, ended.raw, applied=answer.applied
                )
                return ended
        if body.keyed:
            self.unsure.add(step.n)
            self._note_settled(step, "key", str(self.key_of(step)), NIL_BYTES, applied=None)
            return AGAIN
        return None

    def _note_settled(
        self, step: Step, how: str, by: str, raw: bytes, *, applied: bool | None
    ) -> None:
        self.log.note(DoubtSettled(step.n, applied, how, by, self.wall_s(), msgspec.Raw(raw)))
        self.log.changes()
        self.log.put()

    async def _verified(self, step: Step, verify: Verify) -> _Verdict | None:
        """Return whether the write happened and its value, or None if that cannot be said."""
        kwargs = {p: step.kwargs[p] for p in verify.parameters if p in step.kwargs}
        for parameter, kind in verify.injected.items():
            kwargs[parameter] = self.injection(kind, step, 1)

        def call() -> Coroutine[Any, Any, Any]:
            return verify.fn(**kwargs) if verify.is_async else in_thread(verify.fn, kwargs)

        try:
            answer = await self.aside(
                step.body, verify.service or step.body.service, verify.name, call
            )
            raw = encode(answer)
        except BaseException as raised:  # noqa: BLE001  a verify that fails settles nothing
            error = self.own(raised, step.body)
            said = self.log.redactor.text(repr(error))
            log.warning("verify %s of %s failed: %s", verify.name, step.body.name, said)
            return None
        if answer is None or answer is False:
            return _Verdict(applied=False)
        if answer is True:
            return _Verdict(applied=True)
        if not verify.reads:
            return _Verdict(applied=True, value=answer)
        if step.before is None:
            return None
        return _Verdict(applied=raw != step.before, value=answer)
