"""From a path to bytes that can be read twice: unpacked, in UTF-8, and from the beginning.

Keeps: what is put on disk has no name, is only its owner's to read, and goes when it is closed.
Leaves to `documents` what the bytes say.
"""

from __future__ import annotations

import codecs
import gzip
import io
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from undercroft.doctor.problems import Problem

STDIN = "-"
SQLITE = b"SQLite format 3\x00"
# So much is kept in memory before a copy goes to disk.
MEMORY_BYTES = 16 * 1024 * 1024
_HEAD_BYTES = 4_096
_CHUNK_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_PACKED = (
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ\x00", "packed with xz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"PAR1", "a Parquet file"),
)
# UTF-32 first: its mark begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Beyond this share of control characters nobody wrote it to be read.
_CONTROL_SHARE_MAX = 0.05
# And beyond this share of what is no UTF-8 it is in no European's old encoding either.
_FOREIGN_SHARE_MAX = 0.25
_CONTROLS = bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})


@dataclass(slots=True)
class Opened:
    """Bytes to read, from the beginning.

    Attributes:
        name: Of the file, for people.
    """

    name: str
    file: BinaryIO
    steady: Steady

    @property
    def fault(self) -> str:
        """What broke off reading; empty as long as nothing has."""
        return self.steady.fault


class Steady(io.RawIOBase):
    """Bytes that just end where they cannot be read on; why stands in `fault`."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self._read = getattr(inner, "read1", inner.read)
        self.fault = ""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read again."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go on reading from there, and forget what broke off."""
        self.fault = ""
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        """Return where it stands."""
        return self._inner.tell()

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # as narrow as it is called
        """Fill `buffer`; nothing where it cannot be read on."""
        try:
            # Of what is broken off this gives what there is, where `read` gives nothing.
            read = self._read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            self.fault = str(error).rstrip(".") or type(error).__name__
            return 0
        buffer[: len(read)] = read
        return len(read)


def is_journal(path: str | Path) -> bool:
    """Whether `path` is a SQLite database, so that only our own journal can be in it."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


def _named(path: str | Path) -> str:
    return "standard input" if str(path) == STDIN else Path(path).name


def _refused(path: str | Path) -> Problem | None:
    """Return why nothing can be read from `path`, before it is opened."""
    if str(path) == STDIN:
        return None
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return Problem(str(path), "there is no such file", "Check the path.")
    except (OSError, ValueError) as error:
        return Problem(str(path), f"it cannot be opened: {_why(error)}")
    if stat.S_ISDIR(mode):
        return Problem(str(path), "it is a folder", "Name the files in it.")
    return None


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


@contextmanager
def opening(path: str | Path) -> Iterator[Opened | Problem]:
    """Open `path`, or "-" for standard input; gives a `Problem` where nothing can be read."""
    refused = _refused(path)
    if refused is not None:
        yield refused
        return
    with ExitStack() as stack:
        found: Opened | Problem
        try:
            if str(path) == STDIN:
                file: BinaryIO = stack.enter_context(_copied(sys.stdin.buffer))
            else:
                file = stack.enter_context(Path(path).open("rb"))
                if not file.seekable():
                    file = stack.enter_context(_copied(file))
            found = _unpacked(file, path, stack)
        except OSError as error:
            found = Problem(str(path), f"it cannot be opened: {_why(error)}")
        yield found


def _copied(file: BinaryIO) -> BinaryIO:
    """Copy what can be read only once."""
    copy: BinaryIO = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # type: ignore[assignment]  # noqa: SIM115  the caller closes it
    while chunk := file.read(_CHUNK_BYTES):
        copy.write(chunk)
    copy.seek(0)
    return copy


def _unpacked(file: BinaryIO, path: str | Path, stack: ExitStack) -> Opened | Problem:
    if file.read(2) == _GZIP:
        file.seek(0)
        file = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))  # type: ignore[assignment]  # a file of bytes as well
    file.seek(0)
    steady = Steady(file)
    held = io.BufferedReader(steady, _CHUNK_BYTES)
    stack.callback(held.close)
    head = held.read(_HEAD_BYTES)
    if not head and steady.fault:
        return Problem(str(path), f"it cannot be unpacked: {steady.fault}")
    if not head:
        return Problem(str(path), "it is empty", "Was anything recorded?")
    mark = next((name for begin, name in _MARKS if head.startswith(begin)), None)
    mark = mark or _unmarked(head)
    held.seek(0)
    if mark is not None:
        steady = Steady(stack.enter_context(_recoded(held, mark)))
        held = io.BufferedReader(steady, _CHUNK_BYTES)
        stack.callback(held.close)
        head = held.read(_HEAD_BYTES)
        held.seek(0)
    elif head.startswith(codecs.BOM_UTF8):
        held.seek(len(codecs.BOM_UTF8))
    binary = _binary(head)
    if binary:
        return Problem(str(path), binary, "Unpack it, or export the trace as JSON.")
    return Opened(_named(path), held, steady)


def _unmarked(head: bytes) -> str | None:
    """Return the encoding of text that sets a zero byte beside each letter."""
    if head[1:2] == b"\0" and head[3:4] == b"\0" and head[:1] not in {b"", b"\0"}:
        return "utf-16-le"
    if head[:1] == b"\0" and head[2:3] == b"\0" and head[1:2] not in {b"", b"\0"}:
        return "utf-16-be"
    return None


def _recoded(file: BinaryIO, encoding: str) -> BinaryIO:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    copy: BinaryIO = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # type: ignore[assignment]  # noqa: SIM115  the caller closes it
    while chunk := file.read(_CHUNK_BYTES):
        copy.write(decoder.decode(chunk).encode("utf-8", "replace"))
    copy.write(decoder.decode(b"", final=True).encode("utf-8", "replace"))
    copy.seek(0)
    return copy


def _binary(head: bytes) -> str:
    """Say what a file is that holds no text; empty where it does."""
    if head.startswith(SQLITE):
        return "it is a SQLite database, and is read as a journal, not as a trace"
    for begin, what in _PACKED:
        if head.startswith(begin):
            return f"it is {what}, not a trace"
    controls = len(head) - len(head.translate(None, _CONTROLS))
    foreign = head.decode("utf-8", "replace").count("\ufffd")
    binary = controls > _CONTROL_SHARE_MAX * len(head) or foreign > _FOREIGN_SHARE_MAX * len(head)
    return "it is binary, not text" if binary else ""
