"""Tools of other libraries made into tools of ours, by what their users declared of them.

Keeps: a declaration counts more than a hint; a tool of which neither says anything is exclusive
over its service, as any tool is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from undercroft.engine.body import Terms, checked_expiry, make_body
from undercroft.engine.declaring import NOTHING_SAID, Declaration, declared_of
from undercroft.engine.plainly import by_name
from undercroft.engine.standin import make_stand_in
from undercroft.engine.tool import Tool, tool
from undercroft.errors import DeclarationError
from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.layers.conflicts.policy import Declared, Keys, declare, modes_of
from undercroft.layers.sequencing.arguments import ObjectCheck
from undercroft.layers.sequencing.policy import CallRules
from undercroft.layers.sequencing.signature import REQUIRED, Parameter, Signature
from undercroft.model.effect import Mode
from undercroft.model.foreign import ForeignTool

_NOTHING: dict[str, Any] = {}


def tools_of(given: Iterable[object], effects: Mapping[str, Declaration]) -> list[Tool[..., Any]]:
    """Return tools of ours for all that are `given`.

    Args:
        given: Tools of ours, plain functions, and `ForeignTool`s.
        effects: What is declared of tools by their names; it counts more than what
            `undercroft.declare` was told.

    Raises:
        DeclarationError: Something else was given, two share a name, or a declaration cannot
            be met by its tool.
    """
    told: list[tuple[Tool[..., Any] | ForeignTool, Declaration]] = []
    signatures: dict[str, Signature] = {}
    for one in given:
        made = one
        if not isinstance(one, Tool | ForeignTool):
            made = _of_function(one, effects)
        assert isinstance(made, Tool | ForeignTool)  # noqa: S101  one or the other by now
        if made.name in signatures:
            raise DeclarationError(
                f"tool {made.name!r}", "two tools have this name", "Give one another name."
            )
        if isinstance(made, Tool):
            signatures[made.name] = made.signature
            told.append((made, NOTHING_SAID))
            continue
        signatures[made.name] = _signature(made)
        said = effects.get(made.name) or declared_of((made, *made.origins)) or NOTHING_SAID
        told.append((made, said))
    return [
        made if isinstance(made, Tool) else _tool(made, said, signatures) for made, said in told
    ]


def _of_function(given: object, effects: Mapping[str, Declaration]) -> Tool[..., Any]:
    """Return the tool that a plain function is."""
    if not callable(given) or isinstance(given, type):
        raise DeclarationError(
            f"tool {given!r:.80}", "it is no tool", "Give functions, or tools: @uc.tool(reads=…)."
        )
    name = getattr(given, "__name__", "")
    if not name:
        raise DeclarationError(
            f"tool {given!r:.80}", "it has no name", "Wrap it in a function: def name(…)."
        )
    said = effects.get(name) or declared_of((given,)) or NOTHING_SAID
    needs = [_name_of(f"tool {name!r}", needed) for needed in said.needs]
    made: Tool[..., Any] = tool(
        peeks=said.peeks,
        reads=said.reads,
        appends=said.appends,
        writes=said.writes,
        exclusive=said.exclusive,
        service=said.service,
        read_first=said.read_first,
        approval=bool(said.approval),
        verify=said.verify,
        retry=said.retry,
        timeout_s=said.timeout_s,
        version=said.version,
        expires_s=said.expires_s,
        budget=said.budget,
        usd=said.usd,
        polls=said.polls,
        fallback=said.fallback,
    )(by_name(given))
    made.source = given
    if said.idempotent and not made.body.keyed:
        made.body = replace(made.body, keyed=True)
    if needs:
        shared = tuple(tuple(p.name for p in made.signature.parameters) for _ in needs)
        made.rules = replace(made.rules, needs=tuple(needs), shared=shared)
    return made


def _tool(
    given: ForeignTool, said: Declaration, signatures: Mapping[str, Signature]
) -> Tool[..., Any]:
    signature, hints = signatures[given.name], given.hints
    service = said.service or given.service
    approval = hints.approval if said.approval is None else said.approval
    idempotent = hints.idempotent if said.idempotent is None else said.idempotent
    declared = _declared(given, said, signature, service)
    rules = CallRules(
        given.name,
        *_needs(given.name, said.needs, signatures),
        said.read_first,
        approval,
        checked_expiry(said.expires_s, asks=approval),
    )
    timeout_s = given.timeout_s if said.timeout_s is None else said.timeout_s
    terms = Terms(service, timeout_s, said.retry, said.verify, said.version, said.budget, said.usd)
    body = make_body(given.name, _calling(given), signature, declared, terms, names=_NOTHING)
    if idempotent:
        body = replace(body, keyed=True)
    stand_in = make_stand_in(signature.place, given.name, said.fallback, signature, _NOTHING)
    made: Tool[..., Any] = Tool(
        body.fn,
        signature,
        declared,
        rules,
        body,
        service,
        stand_in,
        polls=said.polls,
        check=ObjectCheck(given.schema),
    )
    made.description, made.hints = given.description, hints
    made.source = given.origins[0] if given.origins else given
    return made


def _calling(given: ForeignTool) -> Any:
    """Return a function that calls the tool with its arguments by name."""
    call, name = given.call, given.name

    async def run(**arguments: Any) -> Any:
        if call is None:
            raise DeclarationError(
                f"tool {name!r}", "only its own library can call it", "Call it through that."
            )
        return await call(arguments)

    run.__name__ = run.__qualname__ = name
    return run


def _signature(given: ForeignTool) -> Signature:
    schema = given.schema
    properties = schema.get("properties")
    required = schema.get("required")
    listed = required if isinstance(required, list | tuple) else ()
    parameters = [
        Parameter(name, Any, _default(name, spec, listed))
        for name, spec in (properties.items() if isinstance(properties, Mapping) else ())
    ]
    return Signature(f"tool {given.name!r}", tuple(parameters), {}, Any, is_async=True)


def _default(name: str, spec: Any, required: Sequence[Any]) -> Any:
    if name in required:
        return REQUIRED
    return spec.get("default") if isinstance(spec, Mapping) else None


def _declared(
    given: ForeignTool, said: Declaration, signature: Signature, service: str | None
) -> Declared:
    known = [p.name for p in signature.parameters]
    modes: dict[Mode, Keys] = modes_of(
        said.peeks, said.reads, said.appends, said.writes, said.exclusive
    )
    if not said.says_effect and given.hints.read_only:
        # It changes nothing, by its own word; of what it looks at nothing is known.
        modes[Mode.PEEK] = f"{service or 'tools'}/{given.name}".replace("{", "").replace("}", "")
    try:
        declared = declare(modes, pure=False, service=service, known=known)
    except KeyProblem as problem:
        raise DeclarationError(
            signature.place, str(problem), "Write keys as paths, such as crm/{account_id}."
        ) from None
    # One that takes anything does not list what it takes.
    closed = bool(known) and given.schema.get("additionalProperties") in (None, False)
    for asked in declared.parameters:
        if closed and asked not in known:
            raise DeclarationError(
                signature.place,
                f"a key names {{{asked}}}, which is not a parameter",
                f"Parameters: {', '.join(known)}.",
            )
    return declared


def _needs(
    name: str, needs: Iterable[object], signatures: Mapping[str, Signature]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the names of needed tools, and for each the parameters that both have."""
    mine = [p.name for p in signatures[name].parameters]
    names: list[str] = []
    shared: list[tuple[str, ...]] = []
    for needed in needs:
        other = _name_of(f"tool {name!r}", needed)
        theirs = signatures.get(other)
        names.append(other)
        has = {p.name for p in theirs.parameters} if theirs is not None else set(mine)
        shared.append(tuple(p for p in mine if p in has))
    return tuple(names), tuple(shared)


def _name_of(place: str, needed: object) -> str:
    if isinstance(needed, str):
        return needed
    name = getattr(needed, "name", None) or getattr(needed, "__name__", None)
    if not isinstance(name, str):
        raise DeclarationError(place, f"needs={needed!r:.80} is no tool", "Give tools, or names.")
    return name
