"""Examining runs: here, and where reading takes long, in processes beside this one too.

Keeps: what is said of a run, and in which order, does not depend on where it was examined; few
runs are on their way at a time, so memory stays flat. Only data crosses to a process and back; what
cannot be sent, or was lost on the way, is examined here. A process ends with whoever started it.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import IO, TypeAlias

import msgspec

from undercroft.doctor.effects import infer
from undercroft.doctor.problems import Problem
from undercroft.doctor.report import Diagnosis
from undercroft.doctor.told import Told
from undercroft.doctor.verdict import examine
from undercroft.model.case import Case

# Until then others are not worth being started, which takes about a second.
ALONE_S = 2.0
# Runs that are sent together, and how many such parcels wait for each process.
_PARCEL_RUNS = 16
_AHEAD = 3
_END_S = 5.0
_NAME = "undercroft.doctor.workers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A run that was read, or what could not be.

    Attributes:
        place: The file that it came from.
        guess: How its format was found out, in words.
    """

    case: Case | Problem
    place: str = ""
    guess: str = ""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What is said of one run: one of the two."""

    diagnosis: Diagnosis | None = None
    problem: Problem | None = None


Said: TypeAlias = Diagnosis | Problem
_SIZE = struct.Struct("<Q")
_ENCODER = msgspec.msgpack.Encoder()
_PARCELS = msgspec.msgpack.Decoder(list[tuple[Case, str, str]])
_REPLIES = msgspec.msgpack.Decoder(list[_Reply])


def examined(read: Read, told: Told | None = None) -> Said:
    """Return what is said of a run; of one that a rule trips over, that it does."""
    if isinstance(read.case, Problem):
        return read.case
    try:
        return examine(infer(read.case, told), place=read.place, guess=read.guess)
    except Exception as error:  # noqa: BLE001  one run that a rule trips over takes no other with it
        why = f"{type(error).__name__}: {error}"
        problem = f"its run {read.case.trace_id} cannot be examined: {why}"
        return Problem(read.place, problem, "That should not happen; the others are not affected.")


def examine_all(
    reads: Iterable[Read], told: Told | None = None, *, beside: int = 0, alone_s: float = ALONE_S
) -> Iterator[Said]:
    """Yield what is said of each run, in order.

    Args:
        reads: Runs, as they are read.
        told: What tools read and write. What is told stays here, and so does the work then.
        beside: How many processes may be started.
        alone_s: After how long.
    """
    coming = iter(reads)
    began = time.monotonic()
    for read in coming:
        yield examined(read, told)
        if beside and told is None and time.monotonic() - began >= alone_s:
            break
    else:
        return
    yield from _beside(coming, beside)


def _beside(coming: Iterator[Read], count: int) -> Iterator[Said]:
    workers: SimpleQueue[_Worker] = SimpleQueue()
    for _ in range(count):
        workers.put(_Worker())
    under_way: deque[Future[list[Said]]] = deque()
    threads = ThreadPoolExecutor(count)
    try:
        while parcel := list(islice(coming, _PARCEL_RUNS)):
            under_way.append(threads.submit(_sent, workers, parcel))
            if len(under_way) > count * _AHEAD:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
        while not workers.empty():
            workers.get().close()


def _sent(workers: SimpleQueue[_Worker], parcel: Sequence[Read]) -> list[Said]:
    """Have a parcel examined by a worker that is free; or here, where it comes to nothing."""
    worker = workers.get()
    try:
        replies = iter(worker.examined([one for one in parcel if isinstance(one.case, Case)]))
        return [next(replies) if isinstance(one.case, Case) else one.case for one in parcel]
    except (OSError, EOFError, ValueError, TypeError, OverflowError, StopIteration):
        return [examined(one) for one in parcel]
    finally:
        workers.put(worker)


class _Worker:
    """A process that examines what it is sent; used by one thread at a time."""

    def __init__(self) -> None:
        # Not from the folder that we are in, and not where Ctrl-C reaches it: we end it.
        command = [sys.executable, "-P", "-m", _NAME]
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(  # noqa: S603  this module, by this interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return  # whoever asks it for something is told

    def examined(self, parcel: Sequence[Read]) -> list[Said]:
        """Return what is said of each run; raises where the process is not there, or not well."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise EOFError
        _write(process.stdin, _ENCODER.encode([(r.case, r.place, r.guess) for r in parcel]))
        replies = _REPLIES.decode(_read(process.stdout))
        return [said for one in replies for said in (one.diagnosis or one.problem,) if said]

    def close(self) -> None:
        """End the process: it stops where nothing more can come."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.stdout.close()
        try:
            process.stdin.close()
            process.wait(_END_S)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(_SIZE.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    size = _SIZE.unpack(_exactly(stream, _SIZE.size))[0]
    return _exactly(stream, size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def serve(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    """Examine what comes in, until nothing does."""
    while True:
        try:
            parcel = _PARCELS.decode(_read(stdin))
        except EOFError:
            return
        said = [examined(Read(case=case, place=at, guess=guess)) for case, at, guess in parcel]
        replies = [
            _Reply(diagnosis=one) if isinstance(one, Diagnosis) else _Reply(problem=one)
            for one in said
        ]
        _write(stdout, _ENCODER.encode(replies))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
