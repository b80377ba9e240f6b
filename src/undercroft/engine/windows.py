"""The windows of turns: made by the policy, and handed from turn to turn within a session.

Keeps: a turn's window holds what the session's earlier turns said, as the journal tells it,
whichever process ran them; the window of one turn is never that of two at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from undercroft.layers.context.counting import Counter, Counts
from undercroft.layers.context.fold import fold_turn
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.context.state import Window
from undercroft.model.event import decode_frames
from undercroft.model.turn import TurnHead
from undercroft.ports import ModelClient, Store

SESSIONS_MAX = 1_000
TURNS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Room:
    """What windows are made by.

    Attributes:
        policy: How large they are, and what leaves them.
        counts: What counts their tokens.
        summariser: The model that writes summaries; None: nobody does.
    """

    policy: ContextPolicy
    counts: Counts
    summariser: ModelClient | None = None

    def window(self, turn: int = 0) -> Window:
        """Return a new, empty window."""
        return Window(self.policy, self.counts, Memory(), turn=turn)


@dataclass(frozen=True, slots=True)
class Opened:
    """The window that a turn begins with.

    Attributes:
        turn: Number of the turn in its session.
        was: Hash of the policy of the session's turn before; empty where there was none.
    """

    window: Window
    turn: int
    was: str = ""


@dataclass(frozen=True, slots=True)
class _Left:
    """A window as a turn that is over left it."""

    turn_id: str
    turn: int
    window: Window


class Windows:
    """The windows of sessions, between their turns.

    Args:
        store: The journal.
        policy: Of windows, where a handler has none of its own; None: they have no limit.
        counter: What counts tokens; None: what the policy's vocabulary names.
        named: Returns that.
        summariser: The model that writes summaries.
    """

    def __init__(
        self,
        store: Store,
        policy: ContextPolicy | None,
        counter: Counter | None,
        named: Callable[[str], Counter],
        summariser: ModelClient | None,
    ) -> None:
        self._store, self._policy = store, policy
        self._counter, self._named, self._summariser = counter, named, summariser
        self._left: dict[str, _Left] = {}
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
        return Room(policy, counts, self._summariser)

    def take(self, room: Room, session: str | None, turn_id: str) -> Opened:
        """Return the window of a turn that begins, or is taken up again."""
        if session is None:
            return Opened(room.window(), 0)
        left = self._left.pop(session, None)
        # The newest turn is this one, unless it is resumed after others.
        newest = self._store.heads(session=session, limit=2)
        before = [head for head in newest if head.turn_id != turn_id]
        if left is not None and before and before[0].turn_id == left.turn_id:
            same = left.window.policy == room.policy
            if same and all(head.turn_id <= turn_id for head in newest):
                left.window.next_turn(left.turn + 1)
                return Opened(left.window, left.turn + 1, room.policy.hash)
        return self._folded(room, session, turn_id)

    def _folded(self, room: Room, session: str, turn_id: str) -> Opened:
        """Return the window as the journal tells it."""
        window, was, turn = room.window(), "", 0
        for head in self._before(session, turn_id):
            frames = self._store.frames(head.turn_id)
            opened = fold_turn(window, decode_frames(frames or []), turn)
            was = opened.policy if opened is not None else was
            turn += 1
        window.next_turn(turn)
        return Opened(window, turn, was)

    def _before(self, session: str, turn_id: str) -> Sequence[TurnHead]:
        heads = self._store.heads(session=session, limit=TURNS_MAX)
        return [head for head in reversed(heads) if head.turn_id < turn_id]

    def give(self, session: str | None, turn_id: str, opened: Opened) -> None:
        """Keep the window of a turn that is over, for the next turn of its session."""
        if session is None:
            return
        self._left[session] = _Left(turn_id, opened.turn, opened.window)
        while len(self._left) > SESSIONS_MAX:
            del self._left[next(iter(self._left))]
