"""Handlers: ordinary async code in which a model, or the code itself, proposes calls."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

from undercroft.engine.codec import decoder
from undercroft.engine.tool import Tool
from undercroft.errors import DeclarationError
from undercroft.layers.conflicts.keys import Template
from undercroft.layers.sequencing.signature import Signature, read_signature, refuse_reserved
from undercroft.model.effect import Mode
from undercroft.model.ids import fingerprint
from undercroft.ports import ModelClient

P = ParamSpec("P")
R = TypeVar("R")

ModelFactory = Callable[[], ModelClient]


class Handler(Generic[P, R]):
    """A turn as code: `async def assist(turn: uc.Turn, message: str) -> str`.

    Made by `undercroft.handler`.

    Attributes:
        name: Of the function.
        tools: What may be called, by name.
        model: Its own model, or a function that makes one; the runtime's if None.
        code: Fingerprint of the tools on offer.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        signature: Signature,
        tools: Sequence[Tool[..., Any]],
        model: ModelClient | ModelFactory | None,
    ) -> None:
        self.fn = fn
        self.name = fn.__name__
        self.signature = signature
        self.tools = {tool.name: tool for tool in tools}
        self.model = model
        self.module = fn.__module__
        # Filled in when it is first asked for.
        self.import_name = ""
        self.decode = decoder(signature.returns)
        self.specs = tuple(tool.spec for tool in tools)
        self.code = fingerprint([[s.name, s.parameters] for s in self.specs])
        self.input_decoders = {p.name: decoder(p.annotation) for p in signature.parameters}
        self.readers = _readers(tools)
        self.watched = [
            pair for t in tools for pair in zip(t.rules.needs, t.rules.shared, strict=True)
        ]
        # Tools whose answers a verify is compared with, and the arguments that count.
        self.compared = {
            verify.name: verify.parameters
            for verify in (tool.body.verify for tool in tools)
            if verify is not None and verify.reads
        }
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, with a turn of your own making."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<undercroft handler {self.name}: {len(self.tools)} tools>"


def handler(
    *, tools: Sequence[Tool[..., Any]] = (), model: ModelClient | ModelFactory | None = None
) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Declare an async function as the handler of a turn; its first parameter is the turn.

    On a resume the function runs again from its beginning and meets its recorded steps, so
    whatever it does besides asking the turn must come out the same.

    Args:
        tools: What may be called.
        model: A model of its own, or a function without arguments that makes one; the
            runtime's if left out.

    Raises:
        DeclarationError: It is not async, takes no turn, or two tools share a name.
    """
    names = sys._getframe(1).f_locals  # noqa: SLF001  for annotations that name local types

    def decorate(fn: Callable[P, R]) -> Handler[P, R]:
        place = f"handler {fn.__name__!r}"
        seen: set[str] = set()
        for tool in tools:
            if not isinstance(tool, Tool):
                raise DeclarationError(
                    place, f"{tool!r} is not a tool", "Declare it with @uc.tool(reads=…)."
                )
            if tool.name in seen:
                raise DeclarationError(
                    place, f"two tools are called {tool.name!r}", "Give one another name=."
                )
            seen.add(tool.name)
        signature = read_signature(fn, place, names, skip=1)
        refuse_reserved(place, (p.name for p in signature.parameters))
        if not signature.is_async:
            raise DeclarationError(place, "it is not async", "Write `async def`.")
        if fn.__code__.co_argcount < 1:
            raise DeclarationError(
                place, "it takes no turn", "Give it a first parameter `turn: uc.Turn`."
            )
        return Handler(fn, signature, tools, model)

    return decorate


def _readers(
    tools: Sequence[Tool[..., Any]],
) -> dict[str, list[tuple[str, Template]]]:
    """By tool that writes: the tools that may read the same resource, and their templates."""
    reads = [
        (tool.name, template)
        for tool in tools
        for claim, template in zip(
            tool.declared.effect.claims, tool.declared.templates, strict=True
        )
        if claim.mode is Mode.READ
    ]
    return {
        tool.name: [(name, template) for name, template in reads if name != tool.name]
        for tool in tools
        if tool.declared.effect.keys(Mode.WRITE, Mode.EXCLUSIVE)
    }
