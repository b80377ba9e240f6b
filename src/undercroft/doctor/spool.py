"""Records that wait for the rest of their run: in memory to a bound, then on disk.

Keeps: what is on disk has no name, is only its owner's to read, and goes when it is closed; runs
come out in the order in which they began, and their records in the order in which they came in.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, overload

import msgspec

from undercroft.doctor.opening import MEMORY_BYTES

_PLAIN, _JSON = b"m", b"j"


class Spool:
    """Records by run.

    Args:
        memory_bytes: How much is kept in memory.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115  closed in `__exit__`
        self._ends = 0
        self._runs: dict[str, array[int]] = {}
        self._encoder = msgspec.msgpack.Encoder()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: str, record: Any) -> None:
        """Keep a record of a run."""
        try:
            data = _PLAIN + self._encoder.encode(record)
        except (ValueError, TypeError, OverflowError, UnicodeError):
            # Integers larger than any machine's.
            data = _JSON + json.dumps(record, default=str).encode()
        self._file.write(data)
        places = self._runs.setdefault(run, array("q"))
        places.append(self._ends)
        self._ends += len(data)
        places.append(self._ends)

    def runs(self) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield runs with their records, each of which is read when it is looked at."""
        self._file.flush()
        for run, places in self._runs.items():
            yield run, _Kept(self._read, places)

    def _read(self, start: int, end: int) -> Any:
        self._file.seek(start)
        data = self._file.read(end - start)
        if data[:1] == _JSON:
            return json.loads(data[1:])
        return msgspec.msgpack.decode(memoryview(data)[1:])


class _Kept(Sequence[Any]):
    """The records of a run, where they are kept."""

    def __init__(self, read: Callable[[int, int], Any], places: Sequence[int]) -> None:
        self._read = read
        self._places = places

    def __len__(self) -> int:
        return len(self._places) // 2

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        at = 2 * (index % len(self))
        return self._read(self._places[at], self._places[at + 1])
