"""What a tool may open: what it declared, and where a test says that these resources live.

Leaves to `audit.py`: what was opened. Leaves to `access.py`: by whom.
"""

from __future__ import annotations

import contextlib
import ipaddress
import mimetypes
import os
import socket
import sys
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from undercroft.errors import DeclarationError
from undercroft.layers.conflicts.keys import KeyProblem, Template, may_overlap, parse
from undercroft.model.effect import Mode
from undercroft.testing.audit import Access, Ask, Reach, Start, Touch

StrPath = str | os.PathLike[str]
Address = tuple[str, int] | str

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_DEVICES = frozenset({os.devnull, "/dev/random", "/dev/urandom", "/dev/zero"})
_CODE = (".py", ".pyc", ".so", ".pyd")
# Whoever shows a traceback reads the lines of its files.
_TRACEBACKS = frozenset({"linecache", "tokenize"})
_CACHE = f"{os.sep}__pycache__"


class Declaration(NamedTuple):
    """What a tool or step said that it touches: (mode, template) pairs, and a service."""

    name: str
    claims: tuple[tuple[str, Template], ...]
    service: str | None


@dataclass(frozen=True, slots=True)
class Allowed:
    """Where the resources of a test live.

    Attributes:
        folders: By folder or file, the keys whose resources live there.
        addresses: By service.
        free: What every tool may use.
        readable: What every tool may read.
        code: Where modules are read from.
    """

    folders: dict[str, tuple[Template, ...]]
    addresses: dict[str, tuple[Address, ...]]
    free: tuple[str, ...]
    readable: tuple[str, ...]
    code: tuple[str, ...]
    resolved: dict[str, frozenset[str]] = field(default_factory=dict)

    def mend(self, tool: Declaration, access: Access) -> str | None:
        """Say what `tool` would have to declare for `access`; None where it did."""
        match access:
            case Touch():
                return self._mend_touch(tool, access)
            case Reach(address=address):
                here = self._is_there(tool.service, address)
                return None if here else self._mend_service(tool, address, '("HOST", PORT)')
            case Ask(host=host):
                known = self._may_ask(tool.service, host)
                return None if known else self._mend_service(tool, None, f'("{host}", PORT)')
            case Start(program=""):
                return (
                    "Nobody sees what the copy opens: start a program, or do it outside of tools."
                )
            case Start(program=program):
                here = self._is_there(tool.service, program)
                return None if here else self._mend_service(tool, program, f'"{program}"')

    # ------------------------------------------------------------------ files

    def _mend_touch(self, tool: Declaration, touch: Touch) -> str | None:
        if touch.path in _DEVICES or _CACHE in touch.path:
            return None
        homes = [folder for folder in self.folders if _below(touch.path, folder)]
        if homes:
            return _mend_claim(tool, touch, self.folders[max(homes, key=len)])
        if _in_any(touch.path, self.free) or (not touch.changes and self._may_read(touch)):
            return None
        return (
            'Claim a key for it and say where that lives, files={"KEY": "FOLDER"}; '
            "or let every tool use it: free=[…]."
        )

    def _may_read(self, touch: Touch) -> bool:
        is_code = touch.path.endswith(_CODE) and _in_any(touch.path, self.code)
        return is_code or touch.maker in _TRACEBACKS or _in_any(touch.path, self.readable)

    # ------------------------------------------------------------------ services

    def _is_there(self, service: str | None, address: Any) -> bool:
        """Whether `address` (or program) is one of a service."""
        return any(
            isinstance(address, str) and _same_file(address, allowed)
            if isinstance(allowed, str)
            else isinstance(address, tuple)
            and address[1:2] == allowed[1:]
            and self._is_host(address[0], allowed[0])
            for allowed in self.addresses.get(service or "", ())
        )

    def _is_host(self, asked: Any, allowed: str) -> bool:
        if not isinstance(asked, str):
            return False
        found = _addresses(asked)
        return asked.casefold() == allowed.casefold() or not found.isdisjoint(
            self._resolve(allowed) if found else ()
        )

    def _resolve(self, host: str) -> frozenset[str]:
        """Return the addresses of a declared host, which the tool has just looked up itself."""
        if host not in self.resolved:
            found = _addresses(host)
            if not found:
                with contextlib.suppress(OSError):
                    entries = socket.getaddrinfo(host, None)
                    found = frozenset(str(entry[4][0]) for entry in entries)
            self.resolved[host] = found
        return self.resolved[host]

    def _may_ask(self, service: str | None, host: str) -> bool:
        own = socket.gethostname().casefold()
        if _addresses(host) or host.casefold() == own:
            return True
        return any(
            not isinstance(allowed, str) and allowed[0].casefold() == host.casefold()
            for allowed in self.addresses.get(service or "", ())
        )

    def _mend_service(self, tool: Declaration, address: Any, form: str) -> str:
        owner = next((name for name in self.addresses if self._is_there(name, address)), None)
        if owner is not None:
            return f'That is the service {owner!r}: declare service="{owner}".'
        if tool.service is not None:
            return f'Say that its service is there: services={{"{tool.service}": {form}}}.'
        return f'Declare service="NAME" and say where that is: services={{"NAME": {form}}}.'


def allow(
    files: Mapping[str, StrPath],
    services: Mapping[str, Address | Sequence[Address]],
    free: Iterable[StrPath],
) -> Allowed:
    """Return what a guard allows; whatever is installed by now may be read.

    Raises:
        DeclarationError: A key of `files` cannot be read.
    """
    folders: dict[str, tuple[Template, ...]] = {}
    for key, path in files.items():
        home = _real(path)
        folders[home] = (*folders.get(home, ()), _checked_key(key))
    code = [_real(entry) for entry in sys.path]
    installed = [path for path in code if path.endswith(("site-packages", "dist-packages"))]
    python = [_real(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)]
    tables = map(_real, (*zoneinfo.TZPATH, *mimetypes.knownfiles))
    return Allowed(
        folders=folders,
        addresses={name: _several(given) for name, given in services.items()},
        free=tuple(_real(path) for path in free),
        readable=tuple(path for path in (*python, *installed, *tables) if path != os.sep),
        code=tuple(code),
    )


def _checked_key(key: str) -> Template:
    place = f"files={{{key!r}: …}}"
    try:
        template = parse(key)
    except KeyProblem as problem:
        raise DeclarationError(place, str(problem), "Give the first segments of a key.") from None
    if template.parameters:
        raise DeclarationError(
            place,
            "it names a parameter, and a guard knows no arguments",
            "Give the segments before it, or * in its place.",
        )
    return template


def _several(given: Address | Sequence[Address]) -> tuple[Address, ...]:
    match given:
        case str():
            return (given,)
        case (str() as host, int() as port):
            return ((host, port),)
        case _:
            return tuple(entry for one in given for entry in _several(one))


def _mend_claim(tool: Declaration, touch: Touch, homes: Sequence[Template]) -> str | None:
    """Say what a tool lacks for a file where resources below `homes` live."""
    claims = [
        (Mode(mode), claimed)
        for mode, claimed in tool.claims
        if any(may_overlap(home, claimed) for home in homes)
    ]
    if not claims:
        word = "writes" if touch.changes else "reads"
        keys = " or ".join(f'{word}="{home.text}/…"' for home in homes)
        return f"Claim its resource: {keys}."
    if touch.changes and not any(mode.changes for mode, _ in claims):
        said = " and ".join(f"`{mode} {claimed.text}`" for mode, claimed in claims)
        return f"It only claims {said}: declare writes= or appends=."
    return None


def _real(path: StrPath) -> str:
    return str(Path(path).resolve())


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _in_any(path: str, folders: Iterable[str]) -> bool:
    return any(_below(path, folder) for folder in folders)


def _same_file(asked: str, allowed: str) -> bool:
    """Whether a socket's path or a program is the one allowed; a program may go by its name."""
    if asked == allowed or "\0" in asked or "\0" in allowed:  # abstract sockets have no path
        return asked == allowed
    return Path(asked).name == allowed or _real(asked) == _real(allowed)


def _addresses(host: str) -> frozenset[str]:
    """Return the addresses that `host` is without asking anybody; none for a name."""
    if host.casefold() == "localhost":
        return _LOOPBACK
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return frozenset()
    return frozenset({str(getattr(address, "ipv4_mapped", None) or address)})
