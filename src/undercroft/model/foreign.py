"""What crosses between somebody else's library and the engine: its tools, its calls, its prompts.

Keeps: what a library says of its tool is a hint; only a declaration of a user's is a promise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from undercroft.model.message import Answer, ModelRequest

# Given the arguments as one object; returns plain data, or raises.
ForeignCall = Callable[[dict[str, Any]], Awaitable[Any]]
# Carries out one call in the way of its loop; returns plain data, or raises.
Run = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Hints:
    """What a tool's own author says of it, not to be relied on.

    The words are those of the Model Context Protocol, "Tool annotations".

    Attributes:
        read_only: It changes nothing.
        destructive: What it changes may be lost.
        idempotent: Doing it again with the same arguments changes nothing more.
        approval: A person should agree to each call.
    """

    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    approval: bool = False


NO_HINTS = Hints()


@dataclass(frozen=True, slots=True, eq=False)
class ForeignTool:
    """A tool of another library: a framework's, or that of a server.

    Attributes:
        name: As the model knows it.
        description: What the model reads.
        schema: JSON schema of its arguments, an object.
        call: Calls it; None where only the library that defines it can.
        service: Name of what it talks to, or None.
        hints: What its author says of it.
        origins: The objects by which `undercroft.declare` may have named it: itself, and the
            function that it was made of.
        timeout_s: Seconds that a call may take, where its user says nothing else.
    """

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    call: ForeignCall | None = None
    service: str | None = None
    hints: Hints = NO_HINTS
    origins: tuple[object, ...] = ()
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """A prompt of somebody else's loop as it is to go out.

    Attributes:
        request: All of it: messages, and the tools that may be offered.
        places: For each of its messages the place among those that the loop gave, where it is
            just that one; None where it is ours, such as a notice, or one that was shortened.
        plain: Whether it is just what the loop gave.
    """

    request: ModelRequest
    places: tuple[int | None, ...]
    plain: bool


# Sends a prompt in the way of its loop; returns the answer, or raises.
Ask = Callable[[Sending], Awaitable[Answer]]
