"""A guard for tests: a tool that opens a file or a socket that it did not declare fails the test.

Keeps: what runs inside a guarded tool or step is judged, and nothing else is: not the test, not
the handler's own code, not the journal. What a tool starts counts as the tool: coroutines and
tasks, calls handed to a pool of threads, threads of its own.
Cannot see: what raises no audit event. That is C code with I/O of its own (database drivers,
uvloop, a curl binding, what SQLite does to a file once it is open), whatever a child process
does after its start, files that were open before, and looking whether a file is there.
Leaves to `audit.py` what an event means, and to `allowed.py` what a declaration allows.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from undercroft.engine.body import Body, Verify
from undercroft.engine.handler import Handler
from undercroft.engine.targets import Target
from undercroft.engine.tool import Tool
from undercroft.engine.workflow import Workflow
from undercroft.errors import DeclarationError, UndercroftError
from undercroft.layers.conflicts.policy import Declared
from undercroft.testing.allowed import Address, Allowed, Declaration, StrPath, allow
from undercroft.testing.audit import JUDGED, Reach, accesses

SEEN_MAX = 100


class UndeclaredAccessError(UndercroftError):
    """A tool opened what it did not declare; raised inside the tool, and again by the guard.

    Attributes:
        tool: Name of the tool or step.
        what: What it did, as `opens '/srv/crm/7.json' to write`.
        mend: What to declare, or to tell the guard.
        others: What else the guard saw.
    """

    def __init__(
        self, tool: str, what: str, mend: str, others: tuple[UndeclaredAccessError, ...] = ()
    ) -> None:
        super().__init__(tool, what, mend, others)
        self.tool, self.what, self.mend, self.others = tool, what, mend, others

    def __str__(self) -> str:
        said = f"{self.tool!r} {self.what}, which it did not declare. {self.mend}"
        return "\n".join([said, *map(str, self.others)])


@contextlib.contextmanager
def access_guard(
    *targets: Target | Tool[..., Any],
    files: Mapping[str, StrPath] | None = None,
    services: Mapping[str, Address | Sequence[Address]] | None = None,
    free: Iterable[StrPath] = (),
) -> Iterator[None]:
    """Fail a test in which a tool opens a file or a socket that it did not declare.

        with access_guard(assist, files={"crm": tmp_path}, services={"smtp": ("localhost", 2525)}):
            await rt.run(assist, message="upgrade me")

    The call itself raises inside the tool; leaving the `with` raises again, whatever became of
    it. Python's own files may always be read: modules, installed packages, time zones. A
    `verify=` counts as the write that it is for. SQLite opens a file to read, as far as anybody
    can see. What no guard of this kind sees at all stands at the top of its module.

    Args:
        targets: Handlers and workflows, whose tools and steps are guarded, or single tools.
        files: By the first segments of a key, the folder or file where such resources live. A
            tool may read there if it claims a key below these segments or above them, and
            change something there if that claim appends, writes or is exclusive. Of folders
            in each other the innermost counts.
        services: By name of a service, the (host, port) where it is, or several. A text is the
            path of a Unix socket, or a program. Only a tool with that `service=` may use it.
        free: Folders and files that every tool may use, such as one for temporary files.

    Raises:
        UndeclaredAccessError: A tool did so; where it was more than once, the message lists it.
        DeclarationError: A target is none, a workflow does not hold together, or a key of `files`
            cannot be read.
    """
    guard = _Guard(allow(files or {}, services or {}, free))
    parts = {id(place): (place, said) for target in targets for place, said in _parts(target)}
    _listen()
    for place, said in parts.values():
        _watch(place, said, guard)
    try:
        yield
    except Exception:
        # What the test misses is most often what the tool was kept from.
        guard.settle()
        raise
    else:
        guard.settle()
    finally:
        for place, _ in parts.values():
            _unwatch(place, guard)


@dataclass(slots=True, eq=False)
class _Guard:
    """One guard, and what it has seen."""

    allowed: Allowed
    seen: list[UndeclaredAccessError] = field(default_factory=list)

    def note(self, error: UndeclaredAccessError) -> None:
        """Keep an error for the end."""
        known = any((e.tool, e.what) == (error.tool, error.what) for e in self.seen)
        if not known and len(self.seen) < SEEN_MAX:
            self.seen.append(error)

    def settle(self) -> None:
        """Raise what was seen, if anything was."""
        if len(self.seen) == 1:
            raise self.seen[0]
        if self.seen:
            first, *others = self.seen
            raise UndeclaredAccessError(
                first.tool, first.what, first.mend, tuple(others)
            ) from first


# ------------------------------------------------------------------ what is guarded


@dataclass(slots=True, eq=False)
class _Watched:
    """A function under guard."""

    declared: Declaration
    fn: Callable[..., Any]
    guards: list[_Guard] = field(default_factory=list)


# By id of the body or verify whose function was replaced.
_watched: dict[int, _Watched] = {}


def _parts(target: object) -> Iterator[tuple[Body | Verify, Declaration]]:
    """Yield whatever of `target` calls a user's function, with what was declared for it."""
    if isinstance(target, Tool):
        yield from _functions(target.body, target.service, target.declared)
    elif isinstance(target, Handler):
        for name, tool in target.tools.items():
            yield from _functions(tool.body, tool.service, tool.declared, target.declared[name])
    elif isinstance(target, Workflow):
        canonical = {op.name: op.declared for op in target.build().ops}
        for step in target._declarations:  # noqa: SLF001  one package
            spelled = step.declared, canonical[step.node.name]
            yield from _functions(step.body, step.service, *spelled)
    else:
        raise DeclarationError(
            f"target {getattr(target, '__name__', target)!r}",
            "it declares no effects that could be guarded",
            "Give workflows, handlers or tools.",
        )


def _functions(
    body: Body, service: str | None, *spelled: Declared
) -> Iterator[tuple[Body | Verify, Declaration]]:
    """Yield the functions of a body; a resource counts by each of its spellings."""
    claims = tuple(claim for declared in spelled for claim in declared.modes)
    said = Declaration(body.name, claims, service)
    yield body, said
    if body.verify is not None:
        yield body.verify, said


def _watch(place: Body | Verify, said: Declaration, guard: _Guard) -> None:
    if not _watched:
        _patch(_submit, _start)
    if id(place) not in _watched:
        watched = _Watched(said, place.fn)
        _watched[id(place)] = watched
        wrap = _wrapped_async if place.is_async else _wrapped
        object.__setattr__(place, "fn", wrap(watched))  # frozen, and put back by `_unwatch`
    _watched[id(place)].guards.append(guard)


def _unwatch(place: Body | Verify, guard: _Guard) -> None:
    watched = _watched[id(place)]
    watched.guards.remove(guard)
    if not watched.guards:
        object.__setattr__(place, "fn", watched.fn)
        del _watched[id(place)]
    if not _watched:
        _patch(_plain_submit, _plain_start)


# ------------------------------------------------------------------ who is at work

_NOBODY = _Watched(Declaration("", (), None), lambda: None)
_current: ContextVar[_Watched | None] = ContextVar("undercroft_at_work", default=None)
# A thread does not inherit the context of who starts it.
_threads: WeakKeyDictionary[threading.Thread, _Watched] = WeakKeyDictionary()


def _at_work() -> _Watched | None:
    return _current.get() or _threads.get(threading.current_thread())


@contextlib.contextmanager
def _as(watched: _Watched) -> Iterator[None]:
    token = _current.set(watched)
    try:
        yield
    finally:
        # A coroutine that was left behind may be closed from anywhere.
        with contextlib.suppress(ValueError):
            _current.reset(token)


def _wrapped(watched: _Watched) -> Callable[..., Any]:
    @functools.wraps(watched.fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _as(watched):
            return watched.fn(*args, **kwargs)

    return call


def _wrapped_async(watched: _Watched) -> Callable[..., Any]:
    @functools.wraps(watched.fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with _as(watched):
            return await watched.fn(*args, **kwargs)

    return call


_plain_submit: Callable[..., Any] = ThreadPoolExecutor.submit
_plain_start: Callable[..., Any] = threading.Thread.start


def _submit(pool: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Hand a call to a pool together with who asks for it.

    Pools know nothing of contexts, and much goes through them: asyncio looks up hosts in one.
    """
    watched = _at_work()
    if watched is None:
        return _plain_submit(pool, fn, *args, **kwargs)

    def work() -> Any:
        with _as(watched):
            return fn(*args, **kwargs)

    # The threads of a pool outlive the tool that made it grow, and serve others.
    with _as(_NOBODY):
        return _plain_submit(pool, work)


def _start(thread: threading.Thread) -> None:
    """Start a thread, and remember for whom."""
    watched = _at_work()
    if watched is not None and watched is not _NOBODY:
        _threads[thread] = watched
    _plain_start(thread)


def _patch(submit: Callable[..., Any], start: Callable[..., Any]) -> None:
    # By name: what has the type of a method, for a type checker, can hardly be replaced.
    for owner, name, function in (
        (ThreadPoolExecutor, "submit", submit),
        (threading.Thread, "start", start),
    ):
        setattr(owner, name, function)


@functools.cache
def _listen() -> None:
    """Hear of every access in this process: once, and for good, since a hook stays."""
    sys.addaudithook(_hook)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watched or event not in JUDGED:
        return
    watched = _at_work()
    if watched is None or not watched.guards:
        return
    frame = sys._getframe(1)  # noqa: SLF001  whose code it is says whether it is an import
    with _as(_NOBODY):
        for access in accesses(event, args, frame):
            for guard in tuple(watched.guards):
                mend = guard.allowed.mend(watched.declared, access)
                if mend is not None:
                    error = UndeclaredAccessError(watched.declared.name, access.what, mend)
                    guard.note(error)
                    if isinstance(access, Reach):
                        args[0].close()  # the standard library only does so for an OSError
                    raise error
