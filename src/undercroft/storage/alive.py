"""Which runtimes on this machine are alive, as the kernel knows it and not as a clock says.

Each runtime holds a lock on one byte of a file beside the journal, at the offset of its
number; the kernel lets go of it when the process ends, however it ends. So a killed process
is seen at once, and one that is merely paused is never taken for dead.

POSIX drops all of a process's locks on a file when it closes any descriptor of it; hence one
descriptor per file and process, kept here.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field


@dataclass(slots=True)
class _File:
    descriptor: int
    numbers: set[int] = field(default_factory=set)


_FILES: dict[str, _File] = {}


def hold(path: str, number: int) -> None:
    """Declare runtime `number` of the journal at `path` alive until this process ends.

    Raises:
        OSError: The file beside the journal cannot be written.
    """
    path = os.path.realpath(path)
    file = _FILES.get(path)
    if file is None:
        descriptor = os.open(path + "-alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        file = _FILES[path] = _File(descriptor)
    fcntl.lockf(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    file.numbers.add(number)


def release(path: str, number: int) -> None:
    """Take back what `hold` declared."""
    path = os.path.realpath(path)
    file = _FILES.get(path)
    if file is None or number not in file.numbers:
        return
    file.numbers.discard(number)
    fcntl.lockf(file.descriptor, fcntl.LOCK_UN, 1, number)
    if not file.numbers:
        os.close(file.descriptor)
        del _FILES[path]


def is_alive(path: str, number: int) -> bool:
    """Whether the process of runtime `number` still runs."""
    path = os.path.realpath(path)
    file = _FILES.get(path)
    if file is not None and number in file.numbers:
        return True
    if file is not None:
        return _is_locked(file.descriptor, number)
    try:
        # A reader that holds nothing may open and close a descriptor of its own; it may not
        # be allowed to write.
        descriptor = os.open(path + "-alive", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_locked(descriptor, number)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int, number: int) -> bool:
    try:
        # Shared, so that two who ask at the same moment do not take each other for the holder.
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, number)
    except OSError:
        return True
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, number)
    return False
