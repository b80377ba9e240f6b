"""What exporters are told of a life of a turn: its frames, once its end is durable.

Keeps: whoever watches never breaks what is watched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from undercroft.model.turn import Told
from undercroft.ports import Exporter

log = logging.getLogger(__name__)


class Telling:
    """Gathers the frames of one life of a turn.

    Args:
        exporters: Who wants to know.
        turn_id: The turn.
        earlier: Frames of its earlier lives, which were told before.
    """

    def __init__(
        self, exporters: Sequence[Exporter], turn_id: str, earlier: Iterable[bytes] = ()
    ) -> None:
        self._exporters, self._turn_id = exporters, turn_id
        self._frames = list(earlier)
        self._earlier = len(self._frames)

    def add(self, frame: bytes) -> None:
        """Take in a frame that was queued."""
        self._frames.append(frame)

    def drop(self, frame: bytes) -> None:
        """Forget a frame that was not written after all."""
        self._frames.remove(frame)

    def tell(self) -> None:
        """Tell all exporters."""
        told = Told(self._turn_id, tuple(self._frames), self._earlier)
        for exporter in self._exporters:
            try:
                exporter.take(told)
            except Exception:
                log.exception("exporter %r failed on turn %s", exporter, self._turn_id)
