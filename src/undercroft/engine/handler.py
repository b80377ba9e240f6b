"""Handlers: ordinary async code in which a model, or the code itself, proposes calls."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from undercroft.engine.body import known_resources, respelled, secrets_of, use_of
from undercroft.engine.codec import decoder
from undercroft.engine.declaring import read_effects
from undercroft.engine.foreign import tools_of
from undercroft.engine.recall import check_names
from undercroft.engine.tool import Tool
from undercroft.errors import DeclarationError
from undercroft.layers.conflicts.keys import Template
from undercroft.layers.conflicts.policy import Declared
from undercroft.layers.conflicts.resource import Resource, Resources
from undercroft.layers.conflicts.strength import Strengths
from undercroft.layers.conflicts.versions import watched
from undercroft.layers.context.policy import ContextPolicy
from undercroft.layers.sequencing.signature import Signature, read_signature, refuse_reserved
from undercroft.model.effect import Mode, Strength
from undercroft.model.foreign import ForeignTool
from undercroft.model.ids import fingerprint
from undercroft.ports import ModelClient

P = ParamSpec("P")
R = TypeVar("R")

ModelFactory = Callable[[], ModelClient]
Models = ModelClient | ModelFactory | Sequence[ModelClient | ModelFactory]


class Handler(Generic[P, R]):
    """A turn as code: `async def assist(turn: uc.Turn, message: str) -> str`.

    Made by `undercroft.handler`.

    Attributes:
        name: Of the function.
        tools: What may be called, by name.
        model: Its own model, or a function that makes one, or several; the runtime's if None.
        context: Its own policy for the window; the runtime's if None.
        code: Fingerprint of the tools on offer.
        resources: Those that were declared, and those that its tools name as such.
        declared: By tool, its effect in the spelling under which keys are claimed.
        secrets: Names of parameters and fields that are annotated `uc.Secret`.
        guest: Whether its loop is somebody else's, so that its code cannot be called again.
    """

    guest = False

    def __init__(  # noqa: PLR0913, PLR0917  made in one place, by `handler`
        self,
        fn: Callable[P, R],
        signature: Signature,
        tools: Sequence[Tool[..., Any]],
        model: Models | None,
        resources: Sequence[Resource] = (),
        context: ContextPolicy | None = None,
    ) -> None:
        self.fn = fn
        self.name = fn.__name__
        self.signature = signature
        self.tools = {tool.name: tool for tool in tools}
        self.model = model
        self.context = context
        self.module = fn.__module__
        # Filled in when it is first asked for.
        self.import_name = ""
        self.decode = decoder(signature.returns)
        self.specs = tuple(tool.spec for tool in tools)
        self.code = fingerprint([[s.name, s.parameters] for s in self.specs])
        self.input_decoders = {p.name: decoder(p.annotation) for p in signature.parameters}
        self.resources, self.declared = _canonical(self.name, tools, resources)
        self.readers = _readers(self.declared)
        # Tools that read what another one may write: what they saw is remembered.
        self.remembered = watched(self.declared)
        self.watched = [
            pair for t in tools for pair in zip(t.rules.needs, t.rules.shared, strict=True)
        ]
        # Tools whose answers a verify is compared with, and the arguments that count.
        self.compared = {
            verify.name: verify.parameters
            for verify in (tool.body.verify for tool in tools)
            if verify is not None and verify.reads
        }
        self.secrets = secrets_of(signature).union(*(tool.body.secrets for tool in tools))
        # Seldom asked for, so worked out when it is.
        self._strengths: Strengths | None = None
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, with a turn of your own making."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<undercroft handler {self.name}: {len(self.tools)} tools>"

    @property
    def asks(self) -> bool:
        """Whether a person is asked before some of its tools run."""
        return any(tool.rules.approval for tool in self.tools.values())

    @property
    def strengths(self) -> Strengths:
        """How strong the fences of what its tools write are."""
        if self._strengths is None:
            self._strengths = Strengths(
                (use_of(name, self.declared[name], tool.body) for name, tool in self.tools.items()),
                self.resources,
            )
        return self._strengths

    def strength(self, key: str) -> Strength:
        """Return how a lapsed owner is kept from writing to `key`."""
        return self.strengths(key)


def handler(
    *,
    tools: Sequence[Tool[..., Any] | ForeignTool] = (),
    model: Models | None = None,
    resources: Sequence[Resource] = (),
    context: ContextPolicy | None = None,
    effects: str | Path | Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Declare an async function as the handler of a turn; its first parameter is the turn.

    On a resume the function runs again from its beginning and meets its recorded steps, so
    whatever it does besides asking the turn must come out the same.

    Args:
        tools: What may be called: tools of ours, and those of other libraries as an adapter
            translates them.
        model: A model of its own, or a function without arguments that makes one; the
            runtime's if left out. Of several in a list each is asked where those before it gave
            no answer.
        resources: What is known of resources beyond the keys of the tools: other spellings,
            how strong their fences are. Those that a tool names as such need not be repeated.
        context: How large its window is, and what leaves it; as the runtime has it if left out.
        effects: What tools of other libraries do: path of a TOML file, or a mapping like it; it
            counts more than what `undercroft.declare` was told.

    Raises:
        DeclarationError: It is not async, takes no turn, two tools share a name, or two
            resources a spelling.
    """
    names = sys._getframe(1).f_locals  # noqa: SLF001  for annotations that name local types

    def decorate(fn: Callable[P, R]) -> Handler[P, R]:
        place = f"handler {fn.__name__!r}"
        seen: set[str] = set()
        for given in tools:
            if not isinstance(given, Tool | ForeignTool):
                raise DeclarationError(
                    place, f"{given!r} is not a tool", "Declare it with @uc.tool(reads=…)."
                )
            if given.name in seen:
                raise DeclarationError(
                    place, f"two tools are called {given.name!r}", "Give one another name=."
                )
            seen.add(given.name)
        made = tools_of(tools, read_effects(effects))
        if not isinstance(context, ContextPolicy | None):
            raise DeclarationError(
                place, f"context={context!r} is no policy", "Give it a uc.ContextPolicy(…)."
            )
        if context is not None:
            check_names(fn.__name__, context, [tool.name for tool in made])
        signature = read_signature(fn, place, names, skip=1)
        refuse_reserved(place, (p.name for p in signature.parameters))
        if not signature.is_async:
            raise DeclarationError(place, "it is not async", "Write `async def`.")
        if fn.__code__.co_argcount < 1:
            raise DeclarationError(
                place, "it takes no turn", "Give it a first parameter `turn: uc.Turn`."
            )
        return Handler(fn, signature, made, model, resources, context)

    return decorate


def _canonical(
    name: str, tools: Sequence[Tool[..., Any]], resources: Sequence[Resource]
) -> tuple[Resources, dict[str, Declared]]:
    """Return all resources, and by tool its effect in their spelling."""
    known = known_resources(f"handler {name!r}", resources, (tool.declared for tool in tools))
    declared = {tool.name: respelled(f"tool {tool.name!r}", tool.declared, known) for tool in tools}
    return known, declared


def _readers(declared: Mapping[str, Declared]) -> dict[str, list[tuple[str, Template]]]:
    """By tool that writes: the tools that may read the same resource, and their templates."""
    reads = [
        (name, template)
        for name, effect in declared.items()
        for mode, template in effect.modes
        if mode == Mode.READ
    ]
    return {
        name: [(reader, template) for reader, template in reads if reader != name]
        for name, effect in declared.items()
        if effect.effect.keys(Mode.WRITE, Mode.EXCLUSIVE)
    }
