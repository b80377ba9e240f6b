"""Tools: plain functions plus what they do to the world, offered to a model.

A declaration is where the policies of all layers meet, so it lives in the engine.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload

from undercroft.engine.body import Body, Terms, checked_expiry, make_body
from undercroft.engine.standin import StandIn, make_stand_in
from undercroft.errors import DeclarationError
from undercroft.layers.breakers.policy import Budget, RetryPolicy
from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.layers.conflicts.policy import Declared, Keys, declare, modes_of
from undercroft.layers.sequencing.arguments import ArgumentCheck, ObjectCheck
from undercroft.layers.sequencing.policy import CallRules
from undercroft.layers.sequencing.signature import Signature, read_signature
from undercroft.model.effect import Effect, Mode
from undercroft.model.foreign import NO_HINTS, Hints
from undercroft.model.inject import IdempotencyKey
from undercroft.model.message import ToolSpec

P = ParamSpec("P")
R = TypeVar("R")


class Tool(Generic[P, R]):
    """A function that a model may ask for, with its declared effect.

    Calling it calls the function. Made by `undercroft.tool`.

    Attributes:
        name: As the model and the journal know it.
        description: The function's docstring.
        effect: Its claims, with templates as keys.
        service: Name of what it talks to, or None.
        stand_in: What is called where it failed, or None.
        polls: Whether asking again and again is what it is for.
        schema: JSON schema of its arguments, injected ones left out.
        source: What it was made of: a function, or a tool of another library.
        hints: What its own author says of it, where that is somebody else.
    """

    hints: Hints = NO_HINTS

    def __init__(  # noqa: PLR0913, PLR0917  made in one place, by `tool`
        self,
        fn: Callable[P, R],
        signature: Signature,
        declared: Declared,
        rules: CallRules,
        body: Body,
        service: str | None,
        stand_in: StandIn | None = None,
        *,
        polls: bool = False,
        check: ObjectCheck | None = None,
    ) -> None:
        self.fn = fn
        self.source: object = fn
        self.name = rules.tool
        self.description = inspect.getdoc(fn) or ""
        self.effect: Effect = declared.effect
        self.service = service
        self.stand_in, self.polls = stand_in, polls
        self.signature, self.declared, self.rules, self.body = signature, declared, rules, body
        # Whoever defined a tool elsewhere checks the types of its arguments there.
        self.check = check or ArgumentCheck(signature)
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself: no check, no journal."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<undercroft tool {self.name}>"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of its arguments."""
        return self.check.schema

    @property
    def repeatable(self) -> bool:
        """Whether calling it again with the same arguments is declared to change nothing more."""
        return self.body.keyed and IdempotencyKey not in self.body.injected.values()

    @property
    def returns(self) -> Any:
        """What its function says that it returns; `Any` where it does not."""
        return self.signature.returns

    @property
    def spec(self) -> ToolSpec:
        """What a model is told about it."""
        return ToolSpec(self.name, self.description, self.schema)


@overload
def tool(fn: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    peeks: Keys = None,
    reads: Keys = None,
    appends: Keys = None,
    writes: Keys = None,
    exclusive: Keys = None,
    service: str | None = None,
    needs: Sequence[Tool[..., Any]] = (),
    read_first: bool = True,
    approval: bool = False,
    verify: Callable[..., Any] | None = None,
    retry: RetryPolicy | None = None,
    timeout_s: float | None = None,
    version: Callable[[Any], object] | None = None,
    expires_s: float | None = None,
    budget: Budget | None = None,
    usd: float = 0.0,
    polls: bool = False,
    fallback: Any = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(  # noqa: PLR0913  each keyword is one word of a declaration
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    peeks: Keys = None,
    reads: Keys = None,
    appends: Keys = None,
    writes: Keys = None,
    exclusive: Keys = None,
    service: str | None = None,
    needs: Sequence[Tool[..., Any]] = (),
    read_first: bool = True,
    approval: bool = False,
    verify: Callable[..., Any] | None = None,
    retry: RetryPolicy | None = None,
    timeout_s: float | None = None,
    version: Callable[[Any], object] | None = None,
    expires_s: float | None = None,
    budget: Budget | None = None,
    usd: float = 0.0,
    polls: bool = False,
    fallback: Any = None,
) -> Any:
    """Declare a function as a tool.

    Args:
        fn: The function, async or not; its docstring is what the model reads.
        name: Its name for the model; the function's own if left out.
        peeks: Resources read without any need that they be stable, such as a search.
        reads: Resources read. Keys are templates over the arguments: `crm/{account_id}`; or a
            `Resource`, a function of the arguments, or a list of such.
        appends: Resources added to, in any order.
        writes: Resources changed.
        exclusive: Resources that nobody else may touch meanwhile.
        service: Name of what it talks to; all its tools share a breaker.
        needs: Tools that must have succeeded in this turn for the same arguments.
        read_first: Whether a write needs a read of its resource, where some tool reads it.
        approval: Whether a person must agree to each call.
        verify: What can say, after a crash, whether this write happened: a function of its
            arguments or key that answers True or the result, False or None; or a reading tool.
        retry: When to try again; as its service has it if left out, which is not at all.
        timeout_s: Seconds that one attempt may take.
        version: Makes of the result of a reading tool what tells one state of the resource
            from another, such as an etag; a hash of the result if left out.
        expires_s: Seconds for which an approval counts; for ever if left out.
        budget: What all attempts of one call may spend; the runtime's for a step if left out.
        usd: What an attempt costs, in dollars.
        polls: Whether calling it again and again with the same arguments is what it is for.
        fallback: What stands in where it failed or its service is given up: another tool, a
            function of some of the same arguments, or a value.

    Raises:
        DeclarationError: An annotation, a parameter, a key or the fallback cannot be used.
        SettingError: A number is outside its range, or nobody has to approve.
    """
    names = sys._getframe(1).f_locals  # noqa: SLF001  for annotations that name local types
    modes = modes_of(peeks, reads, appends, writes, exclusive)
    terms = Terms(service, timeout_s, retry, verify, version, budget, usd)

    def decorate(fn: Callable[..., Any]) -> Tool[..., Any]:
        title = name or fn.__name__
        signature = read_signature(fn, f"tool {title!r}", names)
        declared = _declared(modes, signature, service)
        rules = _rules(title, signature, needs, read_first, approval, expires_s)
        body = make_body(title, fn, signature, declared, terms, names=names)
        stand_in = make_stand_in(signature.place, title, fallback, signature, names)
        return Tool(fn, signature, declared, rules, body, service, stand_in, polls=polls)

    return decorate if fn is None else decorate(fn)


def _rules(  # noqa: PLR0913, PLR0917  a part of `tool`, called in one place
    title: str,
    signature: Signature,
    needs: Sequence[Tool[..., Any]],
    read_first: bool,  # noqa: FBT001  likewise
    approval: bool,  # noqa: FBT001  likewise
    expires_s: float | None,
) -> CallRules:
    for needed in needs:
        if not isinstance(needed, Tool):
            raise DeclarationError(
                f"tool {title!r}", f"needs={needed!r} is not a tool", "Give tools: needs=[get_it]."
            )
    return CallRules(
        title,
        tuple(needed.name for needed in needs),
        tuple(_shared(signature, needed.signature) for needed in needs),
        read_first,
        approval,
        checked_expiry(expires_s, asks=approval),
    )


def _declared(modes: Mapping[Mode, Keys], signature: Signature, service: str | None) -> Declared:
    place, known = signature.place, [p.name for p in signature.parameters]
    try:
        declared = declare(modes, pure=False, service=service, known=known)
    except KeyProblem as problem:
        raise DeclarationError(
            place, str(problem), "Write keys as paths, such as crm/{account_id}."
        ) from None
    for asked in declared.parameters:
        if asked not in known:
            raise DeclarationError(
                place,
                f"a key names {{{asked}}}, which is not a parameter",
                f"Parameters: {', '.join(known) or 'none'}.",
            )
    return declared


def _shared(mine: Signature, theirs: Signature) -> tuple[str, ...]:
    names = {p.name for p in theirs.parameters}
    return tuple(p.name for p in mine.parameters if p.name in names)
