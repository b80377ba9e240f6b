"""Asking another model where one gave no answer, and what of each request is written down.

Keeps: what another model is asked is a step of its own, which names the model and what it was
sent; a replay meets the same steps; an answer of which somebody saw half is not asked for again.
Leaves to `askrun.py`: the prompt, which is the same for all models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from undercroft.engine.calls import model_body
from undercroft.engine.codec import encode
from undercroft.engine.exitrun import neither
from undercroft.engine.linerun import LineRun
from undercroft.engine.memo import Memo, Record
from undercroft.engine.models import Sent, name_of, sent_by, service_of
from undercroft.engine.step import Ended, Step, end_of
from undercroft.engine.turn import Line
from undercroft.errors import StreamShownError
from undercroft.layers.breakers.exits import came_to_nothing, in_words
from undercroft.model.message import ModelRequest
from undercroft.model.step import ANOTHER, MODEL, StepStatus
from undercroft.ports import ModelClient

_SHOWN = StreamShownError.__name__
# Another model would have no more time than the first.
_OUT_OF_TIME = "breakers.deadline"


def tries_another(ended: Ended) -> bool:
    """Whether a model that ended like this is no reason to give up, if there is another."""
    if ended.error is not None and ended.error.type == _SHOWN:
        return False
    if ended.refusal is not None and ended.refusal.rule == _OUT_OF_TIME:
        return False
    return came_to_nothing(ended.status, ended.error, ended.refusal)


def others_of(memo: Memo, record: Record | None, fp: bytes) -> list[Record]:
    """Return what is recorded of the models that were asked after the first one, in their order.

    At once, or it would look as if nobody asked for it.
    """
    found: list[Record] = []
    if record is None or record.ended is None or not tries_another(end_of(record.ended)):
        return found
    while (other := memo.take(ANOTHER, fp)) is not None:
        found.append(other)
        if other.ended is None or not tries_another(end_of(other.ended)):
            break
    return found


class ModelRun(LineRun):
    """What of a handler's turn its models share."""

    # Models that gave no answer, by the word for what the turn had to do without, and why.
    instead: dict[str, str]

    def sent(self, line: Line, client: ModelClient, request: ModelRequest) -> Sent | None:
        """Return what a client is sent; None where it does not say."""
        return sent_by(client, request, self.log.redactor, line.digest)

    def other_models(self, line: Line) -> Sequence[ModelClient]:
        """Return whom a line asks where its model gave no answer, in their order."""
        del line
        return self.setting.models[1:]

    async def another(  # noqa: PLR0913, PLR0917  what there is to know of one that failed
        self,
        line: Line,
        n: int,
        ended: Ended,
        request: ModelRequest,
        fp: bytes,
        others: Iterable[Record],
    ) -> tuple[int, Ended]:
        """Ask the next models, as long as one gives no answer; return the step, and how it ended.

        Args:
            line: Whose prompt it is.
            n: The step that asked the first model.
            ended: How that did.
            request: What it was sent, or would have been.
            fp: What stands for the prompt.
            others: What is recorded of other models that were asked.
        """
        models, recorded, place, first = self.other_models(line), iter(others), 0, ended
        while tries_another(ended):
            place += 1
            record = next(recorded, None)
            if record is not None and record.ended is not None:
                n, now = record.n, end_of(record.ended)
            elif place <= len(models):
                step = self._instead(line, n, models[place - 1], place, request, fp, record)
                if record is not None:
                    self.noted.add(record.n)
                n, now = step.n, await self.perform(step, record)
                self.log.put()
            else:
                break
            if now.refusal is None:
                line.window.asked()
            if now.status is StepStatus.OK:
                # In the words of the journal alone, so that a replay says the same.
                why = in_words(first.error, first.refusal)
                self.instead[MODEL] = f"another one answered in its place: {why}"
                return n, now
            ended = now
            why = in_words(now.error, now.refusal)
            first = neither(first, f"another model gave no answer either: {why}")
        return n, first if first.status is not StepStatus.OK else ended

    def _instead(  # noqa: PLR0913, PLR0917  what a step is made of
        self,
        line: Line,
        cause: int,
        model: ModelClient,
        place: int,
        request: ModelRequest,
        fp: bytes,
        record: Record | None,
    ) -> Step:
        """Return the step that asks another model."""
        sent = self.sent(line, model, request)
        asked: dict[str, Any] = {"model": name_of(model)}
        if sent is not None:
            asked |= {"wire": sent.plain, "body": sent.digest()}
        return Step(
            record.n if record is not None else self.log.next_n(),
            ANOTHER,
            model_body(model, ANOTHER, service_of(model, place), sent),
            MODEL,
            {"request": request},
            fp,
            (cause,),
            (),
            msgspec.Raw(encode(asked)),
            branch=line.name,
        )
