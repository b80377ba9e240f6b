"""The windows of turns: made by the policy, and handed from turn to turn within a session.

Keeps: a turn's window holds what the session's earlier turns said, as the journal tells it,
whichever process ran them; the window of one turn is never that of two at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from undercroft.layers.context.counting import Counter, Counts
from undercroft.layers.context.fold import fold_turn
from undercroft.layers.context.guard import check_pins
from undercroft.layers.context.identifiers.extract import Extractor
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.context.state import Window
from undercroft.layers.observability.guard import check_known
from undercroft.layers.observability.redaction import Secrets
from undercroft.model.event import AnyEvent, ContextOpened, decode_frames
from undercroft.model.turn import TurnHead
from undercroft.ports import ModelClient, Store

# What is kept of sessions between their turns: so many tokens of all that was ever said.
LEFT_TOKENS_MAX = 5_000_000
TURNS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Room:
    """What windows are made by.

    Attributes:
        policy: How large they are, and what leaves them.
        counts: What counts their tokens.
        summariser: The model that writes summaries; None: nobody does.
        extractors: What finds identifiers besides those that are found anyway.
    """

    policy: ContextPolicy
    counts: Counts
    summariser: ModelClient | None = None
    extractors: tuple[Extractor, ...] = ()

    def window(self, turn: int = 0) -> Window:
        """Return a new, empty window."""
        return Window(self.policy, self.counts, Memory(self.extractors), turn=turn)


@dataclass(frozen=True, slots=True)
class Opened:
    """The window that a turn begins with.

    Attributes:
        turn: Number of the turn in its session.
        was: Hash of the policy of the session's turn before; empty where there was none.
        seen: Earlier turns that were not over, and how many frames of each it holds.
        hidden: Marks of secrets that were not known when it was made, and stand in it.
    """

    window: Window
    turn: int
    was: str = ""
    seen: tuple[tuple[str, int], ...] = ()
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Left:
    """A window as a turn that is over left it."""

    turn_id: str
    opened: Opened


class _Earlier(NamedTuple):
    """An earlier turn of a session."""

    turn: int
    head: TurnHead
    frames: int
    events: list[AnyEvent]


class Windows:
    """The windows of sessions, between their turns.

    Args:
        store: The journal.
        policy: Of windows, where a handler has none of its own; None: they have no limit.
        counter: What counts tokens; None: what the policy's vocabulary names.
        named: Returns that.
        summariser: The model that writes summaries.
        extractors: What finds identifiers besides those that are found anyway.
        secrets: What knows those that earlier turns were told; None: nobody does.
    """

    def __init__(  # noqa: PLR0913, PLR0917  made in one place, by the runtime
        self,
        store: Store,
        policy: ContextPolicy | None,
        counter: Counter | None,
        named: Callable[[str], Counter],
        summariser: ModelClient | None,
        extractors: Iterable[Extractor] = (),
        secrets: Secrets | None = None,
    ) -> None:
        self._extractors = tuple(extractors)
        self._secrets = secrets
        self._store, self._policy = store, policy
        self._counter, self._named, self._summariser = counter, named, summariser
        self._left: dict[str, _Left] = {}
        self._left_tokens = 0
        # One of each for all windows, so that a text is counted once.
        self._counts: dict[str, Counts] = {}

    def room(self, policy: ContextPolicy | None) -> Room | None:
        """Return what windows are made by, of a handler with this policy; None: no limit.

        Raises:
            SettingError: What counts tokens is another vocabulary's than the policy names.
        """
        policy = policy or self._policy
        if policy is None:
            return None
        if self._counter is not None:
            policy = policy.counted_by(self._counter.name)
        counts = self._counts.get(policy.vocabulary)
        if counts is None:
            counts = Counts(self._counter or self._named(policy.vocabulary))
            self._counts[policy.vocabulary] = counts
        check_pins(policy, counts)
        return Room(policy, counts, self._summariser, self._extractors)

    def take(
        self, room: Room, session: str | None, turn_id: str, under: ContextOpened | None
    ) -> Opened:
        """Return the window of a turn that begins, or is taken up again.

        Args:
            room: What it is made by.
            session: Of the turn.
            turn_id: The turn.
            under: What an earlier life of it was opened with; None where it had no prompt.
        """
        if session is None:
            return Opened(room.window(), 0)
        left = self._drop(session)
        if under is None and left is not None and left.opened.window.policy == room.policy:
            newest = self._store.heads(session=session, limit=2)
            before = [head.turn_id for head in newest if head.turn_id != turn_id]
            if before and before[0] == left.turn_id and self._stand(left.opened.seen):
                turn, seen = left.opened.turn + 1, left.opened.seen
                left.opened.window.next_turn(turn)
                hidden = left.opened.hidden
                return Opened(left.opened.window, turn, left.opened.was, seen, hidden)
        return self._folded(room, session, turn_id, under)

    def _stand(self, seen: Sequence[tuple[str, int]]) -> bool:
        """Whether turns that were not over have come no further since."""
        return all(len(self._store.frames(turn_id) or []) == frames for turn_id, frames in seen)

    def _folded(
        self, room: Room, session: str, turn_id: str, under: ContextOpened | None
    ) -> Opened:
        """Return the window as the journal tells it."""
        earlier, hidden = self._earlier(session, turn_id, under)
        window, was = room.window(), ""
        for one in earlier:
            if one.head.kind != "handler":
                continue  # a workflow has a number, and nothing to say
            opened = fold_turn(window, one.events, one.turn)
            was = opened.policy if opened is not None else was
        turn = 1 + max((one.turn for one in earlier), default=-1)
        if under is not None:
            turn, was = under.turn, under.policy
        window.next_turn(turn)
        open_ones = [one for one in earlier if not one.head.status.final]
        seen = tuple([(one.head.turn_id, one.frames) for one in open_ones])
        return Opened(window, turn, was, seen if under is None else under.seen, hidden)

    def _earlier(
        self, session: str, turn_id: str, under: ContextOpened | None
    ) -> tuple[Sequence[_Earlier], tuple[str, ...]]:
        """Return the turns that come before this one, as far as it knows them; and hidden marks.

        In the order in which they were opened, which is not always that of their ids: a clock
        may have been set back.
        """
        heads = reversed(self._store.heads(session=session, limit=TURNS_MAX))
        known = {} if under is None else dict(under.seen)
        # What was not known when the turn was opened was sent as it stands there.
        hidden = dict.fromkeys(() if under is None else under.hidden)
        found = []
        for place, head in enumerate(head for head in heads if head.turn_id != turn_id):
            frames = (self._store.frames(head.turn_id) or [])[: known.get(head.turn_id)]
            if self._secrets is not None:
                redactor = self._secrets.of(session, turn_id)
                if under is None:
                    hidden |= dict.fromkeys(redactor.unknown(frames))
                else:
                    check_known(turn_id, frames, redactor, hidden)
                frames = redactor.restore(frames, hidden)
            events = decode_frames(frames)
            turn = next((e.turn for e in events if isinstance(e, ContextOpened)), place)
            if under is None or turn < under.turn:
                found.append(_Earlier(turn, head, len(frames), events))
        return sorted(found, key=lambda one: one.turn), tuple(hidden)

    def give(self, session: str | None, turn_id: str, opened: Opened) -> None:
        """Keep the window of a turn that is over, for the next turn of its session."""
        if session is None:
            return
        self._drop(session)
        self._left[session] = _Left(turn_id, opened)
        self._left_tokens += opened.window.said_tokens
        while self._left_tokens > LEFT_TOKENS_MAX:
            self._drop(next(iter(self._left)))

    def _drop(self, session: str) -> _Left | None:
        left = self._left.pop(session, None)
        if left is not None:
            self._left_tokens -= left.opened.window.said_tokens
        return left
