"""What a user tells the doctor of their tools, in a small TOML file.

Keeps: nothing in the file is ignored; what is not known or cannot be meant is an error that names
the file, the key and the mend.

    pins = ["Refunds above 500 EUR need a manager."]  # must stand in every prompt

    [tools.cancel_order]
    writes = "order/{order_id}"     # or reads, peeks, appends, exclusive; a text or a list
    needs = ["get_order"]           # must have succeeded before, for the same arguments
    consent = true                  # a user must have said yes before

    [tools.set_tier]
    writes = "customer/{account_id}"
    idempotent = true               # the same call twice does no harm

    [tools."get_*"]                 # a pattern; a tool's own name goes before patterns
    reads = "order/{order_id}"

    [tools.think]
    neither = true                  # only computes or speaks

    [resources]
    customer = "account"            # another name of the same kind of resource

`reads = true` or `writes = true` says what a tool does where its arguments name no resource.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from undercroft.errors import DeclarationError
from undercroft.layers.conflicts.keys import KeyProblem, Template, parse

SIZE_BYTES_MAX = 1_000_000
MODES: Mapping[str, str] = {
    "peeks": "peek",
    "reads": "read",
    "appends": "append",
    "writes": "write",
    "exclusive": "exclusive",
}
_FLAGS = ("consent", "idempotent", "neither")
_TOOL_KEYS = (*MODES, "needs", *_FLAGS)
_TOP_KEYS = ("tools", "resources", "pins")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldTool:
    """What is told of one tool, or of all whose names fit a pattern.

    Attributes:
        claims: As (mode, template); None for a template where no resource is named.
        needs: Tools that must have succeeded before, for the same arguments.
        consent: Whether a user must have said yes before.
        idempotent: Whether the same call may succeed twice without harm.
        neither: Whether it touches nothing.
    """

    claims: tuple[tuple[str, Template | None], ...] = ()
    needs: tuple[str, ...] = ()
    consent: bool = False
    idempotent: bool = False
    neither: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a user told.

    Attributes:
        tools: By name or pattern, in the order of the file.
        resources: By another name of a kind of resource, the one to use.
        pins: Texts that must stand in every prompt.
    """

    tools: Mapping[str, ToldTool] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)
    pins: tuple[str, ...] = ()

    def of(self, name: str) -> ToldTool | None:
        """Return what is told of a tool: by its name, else by the first pattern that fits."""
        exact = self.tools.get(name)
        if exact is not None:
            return exact
        fitting = (told for pattern, told in self.tools.items() if fnmatchcase(name, pattern))
        return next(fitting, None)


def read_told(path: str | Path) -> Told:
    """Return what the file at `path` tells.

    Raises:
        DeclarationError: It cannot be read, is no TOML, or says what nobody understands.
    """
    place = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(SIZE_BYTES_MAX + 1)
        text = data.decode()
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise DeclarationError(place, problem, "Give the path of a TOML file.") from error
    except UnicodeDecodeError as error:
        raise DeclarationError(place, "is not UTF-8 text", "Save it as UTF-8.") from error
    if len(data) > SIZE_BYTES_MAX:
        problem = f"has more than {SIZE_BYTES_MAX:,} bytes"
        raise DeclarationError(place, problem, 'Tell less: patterns such as "get_*" help.')
    return told_of(text, place)


def told_of(text: str, place: str = "told") -> Told:
    """Return what a TOML text tells; `place` is what errors call it.

    Raises:
        DeclarationError: As of `read_told`.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise DeclarationError(place, f"is no TOML: {why}", "Mend that line.") from error
    _known(data, _TOP_KEYS, place)
    tools = _table(data.get("tools", {}), f"{place}: tools")
    resources = _table(data.get("resources", {}), f"{place}: resources")
    for other, kind in resources.items():
        if not isinstance(kind, str) or not kind or "/" in kind or "/" in other:
            mend = 'Write another = "one", both without slashes.'
            raise DeclarationError(f"{place}: resources.{other}", "is no name of a kind", mend)
    return Told(
        tools={name: _tool(told, f"{place}: tools.{name}") for name, told in tools.items()},
        resources=resources,
        pins=_texts(data.get("pins", []), f"{place}: pins"),
    )


def _tool(data: object, place: str) -> ToldTool:
    told = _table(data, place)
    _known(told, _TOOL_KEYS, place)
    flags = {name: _flag(told.get(name, False), f"{place}.{name}") for name in _FLAGS}
    claims = tuple(
        (mode, template)
        for word, mode in MODES.items()
        if word in told
        for template in _templates(told[word], f"{place}.{word}")
    )
    if claims and flags["neither"]:
        mend = "Leave out neither, or what it reads and writes."
        raise DeclarationError(place, "touches something and neither", mend)
    needs = _texts(told.get("needs", []), f"{place}.needs")
    return ToldTool(claims=claims, needs=needs, **flags)


def _templates(value: object, place: str) -> list[Template | None]:
    if value is True:
        return [None]
    if value is False:
        return []
    templates: list[Template | None] = []
    for text in _texts([value] if isinstance(value, str) else value, place):
        try:
            templates.append(parse(text))
        except KeyProblem as problem:
            mend = 'Write a path such as "order/{order_id}".'
            raise DeclarationError(place, str(problem), mend) from problem
    return templates


def _known(data: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    for key in data:
        if key not in known:
            mend = f"It may hold {', '.join(known)}."
            raise DeclarationError(place, f"does not know the key {key[:80]!r}", mend)


def _table(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DeclarationError(place, "is no table", "Write it as [tools.name] and keys below.")
    return value


def _flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise DeclarationError(place, f"is {str(value)[:80]!r}", "Write true or false.")
    return value


def _texts(value: object, place: str) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else None
    if texts is None or not all(isinstance(text, str) and text for text in texts):
        raise DeclarationError(place, "is no list of texts", 'Write it as ["one", "two"].')
    return tuple(texts)
