"""From Python's audit events to what somebody does to files, sockets and programs.

Keeps: what is no access, or not one of ours to judge (a file that is open already, a database
in memory, Python's reading of modules), is no access here.
Leaves to `allowed.py`: who may do it.
Source: PEP 578, "Python Runtime Audit Hooks"; the events are those of Python 3.11 and newer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# What changes files, besides opening them: the verb, where the event has (path, its folder),
# and whether a link at the end is followed.
_CHANGING: dict[str, tuple[str, tuple[tuple[int, int | None], ...], bool]] = {
    "os.chmod": ("changes the mode of", ((0, 2),), True),
    "os.chown": ("changes the owner of", ((0, 3),), True),
    "os.link": ("links", ((0, 2), (1, 3)), False),
    "os.mkdir": ("makes", ((0, 2),), False),
    "os.remove": ("removes", ((0, 1),), False),
    "os.removexattr": ("changes an attribute of", ((0, None),), True),
    "os.rename": ("renames", ((0, 2), (1, 3)), False),
    "os.rmdir": ("removes", ((0, 1),), False),
    "os.setxattr": ("changes an attribute of", ((0, None),), True),
    "os.symlink": ("links", ((1, 2),), False),
    "os.truncate": ("truncates", ((0, None),), True),
    "os.utime": ("changes the time of", ((0, 3),), True),
    "shutil.rmtree": ("removes", ((0, 1),), False),
}
_LISTING = frozenset({"os.listdir", "os.scandir"})
_REACHING = {
    "socket.bind": "listens at",
    "socket.connect": "connects to",
    "socket.sendmsg": "sends to",
    "socket.sendto": "sends to",
}
_ASKING = frozenset({"socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname"})
# Where the event has the name of the program.
_STARTING = {
    "os.exec": 0,
    "os.posix_spawn": 0,
    "os.spawn": 1,
    "os.system": 0,
    "pty.spawn": 0,
    "subprocess.Popen": 0,
}
_FORKING = frozenset({"os.fork", "os.forkpty"})

JUDGED = frozenset(
    {"open", "sqlite3.connect", *_CHANGING, *_LISTING, *_REACHING, *_ASKING, *_STARTING, *_FORKING}
)


@dataclass(frozen=True, slots=True)
class Touch:
    """Somebody opens, lists or changes a file.

    Attributes:
        path: Absolute, its links resolved.
        what: The same in words.
        changes: Whether the file may be another one after it.
        maker: Name of the module whose code it is.
    """

    path: str
    what: str
    changes: bool
    maker: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Somebody connects, sends or listens: `address` is (host, port, …), or a path."""

    address: Any
    what: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody looks up a host."""

    host: str
    what: str


@dataclass(frozen=True, slots=True)
class Start:
    """Somebody starts a program, or where that has no name, a copy of this process."""

    program: str
    what: str


Access = Touch | Reach | Ask | Start


def accesses(event: str, args: tuple[Any, ...], frame: FrameType) -> Iterator[Access]:
    """Yield what somebody does by an event of `JUDGED`; `frame` is their code."""
    if event in _REACHING:
        yield from _reached(args[1], _REACHING[event])
    elif event in _ASKING:
        host = _text(args[0])
        if host:
            yield Ask(host, f"looks up {host}")
    elif event in _STARTING:
        program = _program(args[_STARTING[event]])
        if event == "os.system":  # a line for a shell
            program = next(iter(program.split()), "sh")
        if program:
            yield Start(program, f"starts {program!r}")
    elif event in _FORKING:
        yield Start("", "forks this process")
    elif not frame.f_code.co_filename.startswith(("<frozen importlib", "<frozen zipimport")):
        yield from _touched(event, args, frame)


def _touched(event: str, args: tuple[Any, ...], frame: FrameType) -> Iterator[Touch]:
    maker = str(frame.f_globals.get("__name__", ""))
    if event in _CHANGING:
        verb, places, follows = _CHANGING[event]
        for place, folder in places:
            path = _path(args[place], None if folder is None else args[folder], follows=follows)
            if path is not None:
                yield Touch(path, f"{verb} {path!r}", changes=True, maker=maker)
        return
    given = "." if args[0] is None else args[0]
    path = _path(_database(given) if event == "sqlite3.connect" else given)
    if path is None or (event == "open" and _is_walk(args, maker)):
        return
    if event in _LISTING:
        yield Touch(path, f"lists {path!r}", changes=False, maker=maker)
    elif event == "sqlite3.connect":
        yield Touch(path, f"opens the database {path!r}", changes=False, maker=maker)
    else:
        changes = bool(args[2] & _WRITING)
        how = "to write" if changes else "to read"
        yield Touch(path, f"opens {path!r} {how}", changes=changes, maker=maker)


def _is_walk(args: tuple[Any, ...], maker: str) -> bool:
    """Whether `shutil.rmtree` and its like go down by open folders, which the event leaves out.

    The folder that they began with was judged.
    """
    is_relative = not _text(args[0]).startswith(os.sep)
    return args[1] is None and maker in ("os", "shutil") and is_relative


def _database(given: Any) -> Any:
    """Return the path of an SQLite database; None where it has no file."""
    name = _text(given)
    if name.startswith("file:"):  # a URI
        name, _, query = name.removeprefix("file:").partition("?")
        name = unquote(name.removeprefix("//localhost").removeprefix("//"))
        name = "" if "mode=memory" in query else name
    return None if name in ("", ":memory:") else name


def _path(given: Any, folder: Any = None, *, follows: bool = True) -> str | None:
    """Return a path as the system resolves it; None for what is no path, such as an open file."""
    if isinstance(given, int):
        return None
    try:
        path = Path(os.fsdecode(given))
        if isinstance(folder, int) and folder >= 0 and not path.is_absolute():
            path = Path(f"/proc/self/fd/{folder}").readlink() / path
        if follows:
            return os.path.realpath(path)
        return str(Path(os.path.realpath(path.parent)) / path.name)
    except (OSError, TypeError, ValueError):
        return None  # the call itself will say so


def _reached(address: Any, verb: str) -> Iterator[Reach]:
    if isinstance(address, tuple) and len(address) > 1:
        yield Reach(address, f"{verb} {address[0]}:{address[1]}")
    elif address is not None:  # None: the socket is connected, which was judged
        path = _text(address) or address
        yield Reach(path, f"{verb} {path!r}")


def _program(given: Any) -> str:
    """Return the name of a program, which may stand at the head of its words."""
    if isinstance(given, list | tuple):
        given = given[0] if given else ""
    return _text(given)


def _text(given: Any) -> str:
    """Return a name as text; none where it is no name."""
    try:
        return os.fsdecode(bytes(given) if isinstance(given, bytearray) else given)
    except TypeError:
        return ""
