"""What a user says of tools that somebody else wrote, without touching their code.

Keeps: the words are those of `undercroft.tool`; what is said of a tool that is not there, or
with a word that does not exist, is an error that names the place.

    uc.declare(withdraw, writes="account/{account_id}", service="bank", approval=True)

The same in a file, where tools are known by their names:

    [tools.withdraw]
    writes = "account/{account_id}"
    service = "bank"
    approval = true
    retry = 3                        # attempts
    needs = ["get_account"]
"""

from __future__ import annotations

import difflib
import tomllib
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from undercroft.engine.tool import Tool
from undercroft.errors import DeclarationError
from undercroft.layers.breakers.policy import Budget, RetryPolicy
from undercroft.layers.conflicts.policy import Keys

_SIZE_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What is said of one tool; each word as in `undercroft.tool`.

    Attributes:
        needs: Tools, or their names.
        idempotent: Whether doing it again with the same arguments changes nothing more: then a
            call of which nobody knows whether it happened is made again.
    """

    peeks: Keys = None
    reads: Keys = None
    appends: Keys = None
    writes: Keys = None
    exclusive: Keys = None
    service: str | None = None
    needs: Sequence[object] = ()
    read_first: bool = True
    approval: bool | None = None
    verify: Callable[..., Any] | None = None
    retry: RetryPolicy | None = None
    timeout_s: float | None = None
    version: Callable[[Any], object] | None = None
    expires_s: float | None = None
    budget: Budget | None = None
    usd: float = 0.0
    polls: bool = False
    fallback: Any = None
    idempotent: bool | None = None

    @property
    def says_effect(self) -> bool:
        """Whether it says what the tool does to resources."""
        return any((self.peeks, self.reads, self.appends, self.writes, self.exclusive))


NOTHING_SAID = Declaration()
_WORDS = tuple(field.name for field in fields(Declaration))
# What a file can say; functions and other objects only code can.
_FILE_WORDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("peeks", "reads", "appends", "writes", "exclusive"), (str, list)),
    "service": str,
    "needs": list,
    **dict.fromkeys(("read_first", "approval", "polls", "idempotent"), bool),
    "retry": int,
    **dict.fromkeys(("timeout_s", "expires_s", "usd"), (int, float)),
}
# By the id of an object, what was said of it, and what keeps that id its own.
_said: dict[int, tuple[object, Declaration]] = {}


def declare(tool: object, /, **words: Any) -> None:
    """Say what a tool does to the world, without touching it; once more replaces it.

    Args:
        tool: A function, or a tool object of a framework.
        words: As those of `undercroft.tool`, from `peeks=` to `fallback=`, without `name=`; and
            `idempotent=True` where doing it again with the same arguments changes nothing more.

    Raises:
        DeclarationError: There is no such word, or it is a tool of ours, which says it itself.
    """
    place = f"uc.declare({_title(tool)})"
    if isinstance(tool, Tool):
        raise DeclarationError(
            place, "it is declared already", "Say it where it is written: @uc.tool(…)."
        )
    if isinstance(tool, str):
        raise DeclarationError(
            place,
            "a name is no tool",
            "Give the tool itself; by name, say it in a file: effects='undercroft.toml'.",
        )
    made = _declaration(place, words)
    key = id(tool)
    try:
        kept: object = weakref.ref(tool, lambda _: _said.pop(key, None))
    except TypeError:
        kept = tool
    _said[key] = kept, made


def declared_of(origins: Iterable[object]) -> Declaration | None:
    """Return what was said of a tool by one of the objects that it is known by."""
    for origin in origins:
        found = _said.get(id(origin))
        if found is not None:
            return found[1]
    return None


def read_effects(effects: str | Path | Mapping[str, Any] | None) -> dict[str, Declaration]:
    """Return what a file says of tools, by their names; or a mapping of the same shape.

    Args:
        effects: Path of a TOML file with a table `[tools.NAME]` for each; or by name either a
            mapping of words or a `Declaration`.

    Raises:
        DeclarationError: It cannot be read, or says what cannot be said.
    """
    if effects is None:
        return {}
    if isinstance(effects, Mapping):
        return {
            name: said
            if isinstance(said, Declaration)
            else _declaration(f"effects[{name!r}]", said)
            for name, said in effects.items()
        }
    place = str(effects)
    try:
        raw = Path(effects).read_bytes()
        if len(raw) > _SIZE_MAX_BYTES:
            raise DeclarationError(
                place, f"it has {len(raw):,} bytes", "Name the file that declares your tools."
            )
        found = tomllib.loads(raw.decode())
    except OSError as error:
        raise DeclarationError(
            place, f"it cannot be read: {error.strerror}", "Name a file: effects='undercroft.toml'."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeclarationError(place, f"it is no TOML: {error}", "Mend it there.") from error
    for key in found:
        if key != "tools":
            raise DeclarationError(
                place, f"it has a table {key!r}", "Each tool has one: [tools.NAME]."
            )
    tools = found.get("tools", {})
    if not isinstance(tools, dict):
        raise DeclarationError(place, "its `tools` are no table", "Write [tools.NAME].")
    return {name: _from_file(place, name, said) for name, said in tools.items()}


def _from_file(path: str, name: str, said: Any) -> Declaration:
    place = f"{path}, [tools.{name}]"
    if not isinstance(said, dict):
        raise DeclarationError(place, "it is no table", f'Write [tools.{name}] and reads = "…".')
    words = dict(said)
    for word, value in said.items():
        kind = _FILE_WORDS.get(word)
        if kind is None:
            _refuse_word(place, word, _FILE_WORDS)
        elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise DeclarationError(
                place, f"{word} = {value!r} cannot be meant", f"It is {_kinds(kind)}."
            )
    if "retry" in words:
        words["retry"] = RetryPolicy(attempts=words["retry"])
    return _declaration(place, words)


def _declaration(place: str, words: Mapping[str, Any]) -> Declaration:
    for word in words:
        if word not in _WORDS:
            _refuse_word(place, word, _WORDS)
    made = Declaration(**words)
    needs: Any = made.needs
    if isinstance(needs, str) or not isinstance(needs, Sequence):
        raise DeclarationError(place, f"needs={needs!r} is no list", "Give a list of tools.")
    return made


def _refuse_word(place: str, word: str, known: Iterable[str]) -> None:
    near = difflib.get_close_matches(word, list(known), n=1)
    mend = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
    raise DeclarationError(place, f"there is no word {word!r}", mend)


def _kinds(kind: type | tuple[type, ...]) -> str:
    words = {str: "a text", list: "a list", bool: "true or false", int: "a whole number"}
    kinds = kind if isinstance(kind, tuple) else (kind,)
    named = [words[one] for one in kinds if one in words]
    return "a number" if kinds == (int, float) else " or ".join(named)


def _title(tool: object) -> str:
    name = getattr(tool, "name", None) or getattr(tool, "__name__", None)
    return name if isinstance(name, str) else type(tool).__name__
