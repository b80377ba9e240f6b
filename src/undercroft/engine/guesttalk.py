"""What somebody else's loop says to its model, told to a window of ours, and back again.

Keeps: the window holds what the loop said; where the loop only goes on, only what is new is
told; what the loop left out or changed begins the conversation anew. Whoever sends the prompt
is told of each message which one of theirs it is, so that theirs go out untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from undercroft.layers.context.conversation import clean
from undercroft.layers.context.items import Item
from undercroft.layers.context.state import Window
from undercroft.model.foreign import Sending
from undercroft.model.message import Message, ModelRequest, ToolSpec
from undercroft.model.step import Result, StepStatus, render_result


@dataclass(frozen=True, slots=True)
class Known:
    """The result of a call that a step of the turn tells.

    Attributes:
        data: Its value, as it was recorded.
        changed: Whether the call may have changed anything.
    """

    n: int
    result: Result
    data: object
    changed: bool


class Talk:
    """One conversation of a loop with its model."""

    __slots__ = ("_held", "_places", "_system")

    def __init__(self) -> None:
        # What the loop sent last, and what it was answered.
        self._held: list[Message] = []
        self._system: list[str] = []
        # By the identity of a message of the window, the place of the loop's own.
        self._places: dict[int, int] = {}

    def enter(
        self, window: Window, messages: Sequence[Message], known: Mapping[str, Known]
    ) -> bool:
        """Tell a window what the loop is about to send.

        Args:
            window: What holds the conversation.
            messages: All that the loop would send, in order.
            known: By id of its call, results that steps of the turn tell.

        Returns whether the conversation was begun anew.
        """
        said = [clean(m.content) for m in messages if m.role == "system"]
        talk = [(place, m) for place, m in enumerate(messages) if m.role != "system"]
        held = self._held
        goes_on = said == self._system or not (held or self._system)
        goes_on = goes_on and len(held) <= len(talk)
        goes_on = goes_on and all(
            mine is theirs or _same(mine, theirs)
            for mine, (_, theirs) in zip(held, talk, strict=False)
        )
        anew = not goes_on
        if anew:
            window.anew()
            held = self._held = []
            self._places.clear()
        if anew or not self._system:
            for text in said:
                window.system(text)
            self._system = said
        for place, message in talk[len(held) :]:
            item = self._add(window, message, known)
            if item is not None:
                self._places[id(item.message)] = place
            held.append(message)
        if not anew:
            self._moved(window, talk)
        return anew

    def _moved(self, window: Window, talk: Sequence[tuple[int, Message]]) -> None:
        """Take note of places that changed since system texts came or went before them."""
        if talk and talk[0][0] != min(self._places.values(), default=talk[0][0]):
            mine = [item for item in window.items if not item.notice]
            self._places = {
                id(item.message): place for item, (place, _) in zip(mine, talk, strict=False)
            }

    @staticmethod
    def _add(window: Window, message: Message, known: Mapping[str, Known]) -> Item | None:
        found = known.get(message.call_id or "") if message.role == "tool" else None
        if found is None or message.call_id is None:
            return window.add_foreign(message)
        text = clean(message.content)
        ok = found.result.status is StepStatus.OK
        # What the step's own value reads is not written down twice.
        literal = not ok or text != render_result(found.result, found.data)
        return window.add_text_result(
            text,
            message.call_id,
            message.name or found.result.name,
            found.n,
            changed=found.changed,
            ok=ok,
            literal=literal,
        )

    def answered(self, window: Window, place: int) -> None:
        """Take note that the loop was given the answer which the window has last.

        Args:
            window: What holds the conversation.
            place: That the answer will have in what the loop sends next.
        """
        message = window.items[-1].message
        self._held.append(message)
        self._places[id(message)] = place

    def places(self, request: ModelRequest, messages: Sequence[Message]) -> tuple[int | None, ...]:
        """Return of each message of a request the place of the loop's own; None: it is ours.

        Args:
            request: As it is to be sent.
            messages: What the loop would have sent.
        """
        systems = iter([place for place, m in enumerate(messages) if m.role == "system"])
        left = len(self._system)
        places: list[int | None] = []
        for message in request.messages:
            if message.role == "system" and left:
                left -= 1
                places.append(next(systems, None))
            else:
                places.append(self._places.get(id(message)))
        return tuple(places)


def sending_of(
    talk: Talk, request: ModelRequest, messages: Sequence[Message], tools: Sequence[ToolSpec]
) -> Sending:
    """Return a prompt of the window as whoever sends it is told of it."""
    places = talk.places(request, messages)
    plain = places == tuple(range(len(messages))) and len(request.tools) == len(tools)
    return Sending(request, places, plain)


def _same(mine: Message, theirs: Message) -> bool:
    """Whether two messages say the same; names of results are no part of it."""
    return (
        mine.role == theirs.role
        and mine.call_id == theirs.call_id
        and (mine.content == theirs.content or mine.content == clean(theirs.content))
        and mine.calls == theirs.calls
    )
