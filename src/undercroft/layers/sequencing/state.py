"""What has happened in a turn, as far as order is concerned, and what follows for a call.

Keeps: a call runs only after what it needs; a write only after a read of the same resource.
The cost of a check does not grow with the length of the turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from undercroft.layers.sequencing.policy import CallRules
from undercroft.model.ids import fingerprint
from undercroft.model.step import Refusal


class Done:
    """The calls that succeeded in a turn: by tool and arguments, and the keys that were read."""

    __slots__ = ("_calls", "_read", "_watched")

    def __init__(self, watched: Iterable[tuple[str, tuple[str, ...]]] = ()) -> None:
        """Watch for the pairs (tool, parameters) that some rule may ask about."""
        self._watched: dict[str, list[tuple[str, ...]]] = {}
        self.watch(watched)
        self._calls: set[tuple[str, tuple[str, ...], bytes]] = set()
        self._read: set[str] = set()

    def watch(self, watched: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Watch from now on for more pairs (tool, parameters)."""
        for tool, parameters in watched:
            known = self._watched.setdefault(tool, [])
            if parameters not in known:
                known.append(parameters)

    def note(self, tool: str, arguments: Mapping[str, Any], read: Iterable[str]) -> None:
        """Take note that a call of `tool` succeeded, having read the keys `read`."""
        for parameters in self._watched.get(tool, ()):
            self._calls.add((tool, parameters, _pick(arguments, parameters)))
        self._read.update(read)

    def called(self, tool: str, parameters: tuple[str, ...], arguments: Mapping[str, Any]) -> bool:
        """Whether `tool` succeeded with the same values of `parameters`."""
        return (tool, parameters, _pick(arguments, parameters)) in self._calls

    def covered(self, key: str) -> bool:
        """Whether `key` was read, by itself or with a resource that it lies in."""
        while key:
            if key in self._read:
                return True
            key = key.rpartition("/")[0]
        return False


def refuse_order(
    rules: CallRules,
    arguments: Mapping[str, Any],
    unread: Mapping[str, tuple[str, ...]],
    done: Done,
) -> Refusal | None:
    """Return why a call may not run yet, or None.

    Args:
        rules: Of its tool.
        arguments: As proposed.
        unread: The keys that it writes and that some tool reads, with the names of those tools.
        done: What succeeded in this turn before it.
    """
    for needed, shared in zip(rules.needs, rules.shared, strict=True):
        if not done.called(needed, shared, arguments):
            same = {name: arguments.get(name) for name in shared}
            how = f" for {_spelled(same)}" if same else ""
            return Refusal(
                rule="sequencing.needs",
                message=f"{rules.tool} needs {needed} to have succeeded first{how}.",
                next=f"Call {needed}{how}, look at its result, then propose {rules.tool} again.",
                facts={"needs": needed, "arguments": same},
            )
    if rules.read_first:
        for key, readers in unread.items():
            if not done.covered(key):
                return Refusal(
                    rule="sequencing.read_first",
                    message=f"{rules.tool} writes {key}, which was not read in this turn.",
                    next=f"Read it with {' or '.join(readers)}, then propose {rules.tool} again.",
                    facts={"key": key, "readers": list(readers)},
                )
    return None


def _pick(arguments: Mapping[str, Any], parameters: tuple[str, ...]) -> bytes:
    return fingerprint([arguments.get(name) for name in parameters])


def _spelled(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}"[:80] for name, value in arguments.items())
