"""A journal that is watched as it grows, by a process that writes nothing to it.

Keeps: each frame is read once, in the order in which it was committed; while nobody writes, a
look costs one number.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from undercroft.errors import StoreCorruptError, StoreError
from undercroft.layers.observability.news import Teller, Told
from undercroft.model.event import decode_frames
from undercroft.storage.read import SqliteReader, open_reader

# Frames at a time, and turns whose steps are remembered.
_FRAMES_MAX = 2_000
_TELLERS_MAX = 1_000


class Follower:
    """A journal that is watched as it grows, also one that is not there yet.

    Args:
        path: Of the journal.
        turn: Only news of the turn with this id, or whose id begins so; `last` is the newest.
        session: Only news of turns of this session.
        since: Also what was written from this time on, in seconds since 1970; if left out, only
            what is written from now on.
    """

    def __init__(
        self,
        path: str,
        *,
        turn: str | None = None,
        session: str | None = None,
        since: float | None = None,
    ) -> None:
        self.path = path
        self._turn, self._session, self._since = turn, session, since
        self._stack = ExitStack()
        self._reader: SqliteReader | None = None
        # One that is made later is read from its beginning.
        self._from_start = self.missing
        self._position = self._changes = -1
        # Whether there is more to be read at once.
        self.behind = False
        self._tellers: dict[str, Teller] = {}

    @property
    def missing(self) -> bool:
        """Whether there is no journal yet."""
        try:
            return Path(self.path).stat().st_size == 0
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Let go of the file."""
        self._stack.close()

    def read(self) -> list[Told]:
        """Return what is new since the last time; nothing while there is no journal.

        Raises:
            StoreError: The journal cannot be read.
        """
        reader = self._reader or self._open()
        if reader is None:
            return []
        changes = reader.changes()
        if changes == self._changes:
            return []
        found: list[Told] = []
        frames = reader.frames_after(self._position, limit=_FRAMES_MAX)
        for position, turn_id, frame in frames:
            if self._wants(turn_id):
                teller = self._teller(reader, turn_id)
                found += teller.tell(decode_frames([frame]))
            self._position = position
        self.behind = len(frames) == _FRAMES_MAX
        if not self.behind:
            self._changes = changes
        return [told for told in found if self._shows(told)]

    def _open(self) -> SqliteReader | None:
        if self.missing:
            return None
        try:
            reader = self._stack.enter_context(open_reader(self.path))
        except StoreCorruptError:
            raise
        except StoreError:
            if self._from_start:
                return None  # another process is making it
            raise
        self._reader = reader
        if self._from_start:
            self._position = 0
        elif self._since is not None:
            self._position = reader.position_before(self._since)
        else:
            self._position = reader.position()
        if self._turn == "last":
            self._turn = next(iter(reader.matching("last")), None)
        return reader

    def _wants(self, turn_id: str) -> bool:
        return self._turn is None or turn_id.startswith(self._turn)

    def _shows(self, told: Told) -> bool:
        if self._session is not None and told.session != self._session:
            return False
        return self._since is None or told.at >= self._since

    def _teller(self, reader: SqliteReader, turn_id: str) -> Teller:
        teller = self._tellers.pop(turn_id, None)
        if teller is None:
            teller = Teller(turn_id)
            # What it was called, and which steps it has under way.
            before = [frame for seq, frame in reader.placed(turn_id) if seq <= self._position]
            for _ in teller.tell(decode_frames(before)):
                pass
        self._tellers[turn_id] = teller
        while len(self._tellers) > _TELLERS_MAX:
            del self._tellers[next(iter(self._tellers))]
        return teller
