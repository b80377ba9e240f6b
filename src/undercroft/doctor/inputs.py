"""Which files are meant by what was typed: files, folders, pipes; always in the same order.

Keeps: a folder is walked without following links, sorted, and to a bound; what is no file is put
into one first, since a trace may have to be read twice.
Leaves to `source` what is in a file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from undercroft.doctor.problems import Problem

FILES_MAX = 100_000
DEPTH_MAX = 32
STDIN = "-"

# In a folder, what ends like this is meant; of the rest what begins as data does.
_SUFFIXES = frozenset(".json .jsonl .ndjson .log .txt .db .sqlite .sqlite3".split())  # noqa: SIM905  as they are typed
_BEGINS = (b"{", b"[")
_SQLITE = b"SQLite format 3\x00"
_HEAD_BYTES = 512
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Input:
    """A file to read.

    Attributes:
        name: As it is shown to people.
        journal: Whether it is a database, so that only our own journal can be in it.
    """

    path: Path
    name: str
    journal: bool = False


@contextmanager
def opened(path: str, stdin: BinaryIO | None) -> Iterator[Iterator[Input | Problem]]:
    """Yield the files that a word of a command line means.

    Args:
        path: A file, a folder, a pipe, or `-` for standard input.
        stdin: What is read for `-`.
    """
    if path == STDIN and stdin is not None:
        with _spooled(stdin, "stdin") as file:
            yield iter([Input(file, "stdin", _is_journal(file))])
        return
    place = Path(path)
    try:
        if place.is_dir():
            yield _walked(place)
        elif place.is_file():
            yield iter([Input(place, path, _is_journal(place))])
        elif place.exists():
            with place.open("rb") as pipe, _spooled(pipe, "pipe") as file:
                yield iter([Input(file, path, _is_journal(file))])
        else:
            mend = "Name a file or a folder of traces, or - for standard input."
            yield iter([Problem(path, "there is no such file", mend)])
    except ValueError:  # a NUL in a name
        yield iter([Problem(path, "no file can have such a name", "Name another.")])


def _walked(folder: Path) -> Iterator[Input | Problem]:
    found = 0
    for root, folders, names in os.walk(folder):
        here = Path(root)
        deep = len(here.relative_to(folder).parts) >= DEPTH_MAX
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = here / name
            if name.startswith(".") or not file.is_file() or not _meant(file):
                continue
            found += 1
            if found > FILES_MAX:
                problem = f"it holds more than {FILES_MAX:,} files; the rest was left out"
                yield Problem(str(folder), problem, "Give its folders one by one.")
                return
            yield Input(file, str(file), _is_journal(file))
    if not found:
        yield Problem(str(folder), "there is no trace in it", f"Traces end in {_listed()}.")


def _listed() -> str:
    return ", ".join(sorted(_SUFFIXES)) + ", also with .gz after it"


def _meant(file: Path) -> bool:
    suffixes = file.suffixes[-2:]
    if suffixes and (suffixes[-1] in _SUFFIXES or suffixes[-1] == ".gz"):
        return suffixes[-1] != ".gz" or (len(suffixes) > 1 and suffixes[0] in _SUFFIXES)
    head = _head(file).lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith((*_BEGINS, _SQLITE))


def _is_journal(file: Path) -> bool:
    return _head(file).startswith(_SQLITE)


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""  # whoever reads it says so


@contextmanager
def _spooled(stream: BinaryIO, name: str) -> Iterator[Path]:
    """Put a stream into a file that is gone after."""
    with tempfile.TemporaryDirectory(prefix="undercroft-") as folder:
        file = Path(folder) / name
        with file.open("wb") as copy:
            # Whatever there is, each time: a read of so much would not hear of Ctrl-C meanwhile.
            read = getattr(stream, "read1", stream.read)
            while chunk := read(_CHUNK_BYTES):
                copy.write(chunk)
        yield file


def words(paths: Sequence[str]) -> list[str]:
    """Return the words of a command line, each once: standard input cannot be read twice."""
    return list(dict.fromkeys(paths))
