"""What one line of somebody else's loop is at: its last batch, and what it asks of its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from undercroft.engine.calls import Slot
from undercroft.engine.guesttalk import Known, Talk, sending_of
from undercroft.engine.handler import Handler
from undercroft.engine.inside import INSIDE
from undercroft.engine.turn import Line
from undercroft.errors import ApprovalNeededError, PausedError
from undercroft.model.foreign import Ask, Run
from undercroft.model.message import Answer, Message, ModelRequest, ToolSpec
from undercroft.model.step import MODEL, Call


class GuestSlot(Slot):
    """One call of a batch, which its loop asks for when it sees fit.

    Attributes:
        run: Carries it out; None: the tool's own function does.
        arrived: Whether its loop asked for it.
        busy: Whether it is being carried out, or waits to be.
        paused: Whether somebody is asked inside of it.
        loops: How many loops worked within it.
        unasked: Whether its tool found, once it was called, that somebody has to agree first.
    """

    __slots__ = ("arrived", "busy", "loops", "paused", "run", "unasked")

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.run: Run | None = None
        self.arrived = self.busy = self.paused = self.unasked = False
        self.loops = 0


class Lead:
    """What one line of a loop is at.

    Attributes:
        proposed: The calls that were proposed last, in their order.
        batch: The same as they are to run.
        answered: Ids of the calls of the last answer that was given in this life.
        known: By id of its call, what came of it.
        within: What it may call, where it works within a call of the line that it came from,
            which waits for it; else None.
    """

    __slots__ = (
        "answered",
        "batch",
        "client",
        "known",
        "line",
        "offers",
        "proposed",
        "talk",
        "within",
    )

    def __init__(self, line: Line, within: Handler[..., Any] | None = None) -> None:
        self.line, self.within = line, within
        self.proposed: list[Call] = []
        self.batch: list[GuestSlot] = []
        self.answered: frozenset[str] = frozenset()
        self.known: dict[str, Known] = {}
        self.talk = Talk()
        self.client: Client | None = None
        self.offers: tuple[ToolSpec, ...] = ()


class Client:
    """Asks a model in the way of the loop, once."""

    def __init__(
        self, name: str, service: str, lead: Lead, given: Sequence[Message], ask: Ask
    ) -> None:
        self.name, self.service = name, service
        self.provider = "" if service == MODEL else service
        self._lead, self._given, self._ask = lead, given, ask
        self.raised: BaseException | None = None

    async def complete(self, request: ModelRequest) -> Answer:
        """Answer one request."""
        sending = sending_of(self._lead.talk, request, self._given, self._lead.offers)
        try:
            return await self._ask(sending)
        except BaseException as error:
            self.raised = error
            raise


async def carried(**_: Any) -> Any:
    """Carry out the call in which this code runs, in the way of its loop."""
    inside = INSIDE.get()
    assert inside is not None  # noqa: S101  set by whoever runs the call
    return await carry_out(inside.slot)


async def carry_out(slot: GuestSlot, **_: Any) -> Any:
    """Carry out one call in the way of its loop."""
    assert slot.run is not None  # noqa: S101  or the tool's own function is called
    slot.unasked = False
    try:
        return await slot.run()
    except ApprovalNeededError:
        slot.unasked = True
        raise
    except PausedError:
        slot.paused = True
        raise
