"""Workflows: graphs known ahead, declared as functions whose parameters are the edges."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from undercroft.engine.body import (
    Body,
    Decoder,
    Terms,
    checked_expiry,
    known_resources,
    make_body,
    respelled,
    use_of,
)
from undercroft.engine.codec import decoder
from undercroft.engine.standin import StandIn, is_changing, make_stand_in
from undercroft.errors import DeclarationError, GraphError
from undercroft.layers.breakers.policy import Budget, RetryPolicy
from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.layers.conflicts.policy import Declared, Keys, PlainKeys, declare, modes_of
from undercroft.layers.conflicts.resource import Resource, Resources
from undercroft.layers.conflicts.strength import Strengths
from undercroft.layers.conflicts.versions import watched
from undercroft.layers.sequencing.fits import fits, spelled
from undercroft.layers.sequencing.graph import Node, Plan, PlanStep, build
from undercroft.layers.sequencing.signature import (
    Signature,
    read_signature,
    refuse_reserved,
)
from undercroft.model.effect import Mode, Strength
from undercroft.model.ids import fingerprint
from undercroft.model.inject import Approval
from undercroft.model.step import Phase

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _Declaration:
    """A step as written, before the graph is known."""

    node: Node
    body: Body
    declared: Declared
    service: str | None
    expires_s: float | None
    stand_in: StandIn | None


@dataclass(frozen=True, slots=True)
class Op:
    """A step of a workflow, ready to run.

    Attributes:
        from_steps: (parameter, index of the step) pairs.
        from_inputs: (parameter, input) pairs.
        item: The parameter that takes one item of a fan-out.
        decode: Reads the step's recorded value back, as dependents are given it.
        claims: Its claims as the journal keeps them, where no key has a parameter.
        key_steps: (name in keys, index of the step) pairs.
        key_inputs: Names of inputs in keys.
        key_item: The name that stands for the item of a fan-out in keys, or None.
        expires_s: Of a gate, the seconds for which a person's word counts; for ever if None.
        stand_in: What is called where it failed, or None.
    """

    name: str
    index: int
    phase: Phase
    body: Body
    declared: Declared
    plan: PlanStep
    from_steps: tuple[tuple[str, int], ...]
    from_inputs: tuple[tuple[str, str], ...]
    item: str | None
    optional: bool
    gate: bool
    alone: bool
    decode: Decoder
    claims: tuple[tuple[str, str], ...]
    key_steps: tuple[tuple[str, int], ...]
    key_inputs: tuple[str, ...]
    key_item: str | None
    expires_s: float | None = None
    stand_in: StandIn | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A workflow, ready to run.

    Attributes:
        strengths: How strong the fences of what it writes are.
        remembered: Steps that read what another one may write.
        code: Fingerprint of the graph: of its names, phases and edges.
        input_decoders: What reads each recorded input back.
        wanted: By step, how many others use its value; one more where it is returned.
        secrets: Names of parameters and fields that are annotated `uc.Secret`.
    """

    plan: Plan
    ops: tuple[Op, ...]
    code: bytes
    input_decoders: dict[str, Decoder]
    wanted: tuple[int, ...]
    strengths: Strengths
    resources: Resources
    remembered: frozenset[str]
    secrets: frozenset[str] = frozenset()

    def strength(self, key: str) -> Strength:
        """Return how a lapsed owner is kept from writing to `key`."""
        return self.strengths(key)


class Workflow:
    """A graph of steps, known before anything runs.

    A step is declared by decorating a function with its phase; its parameters name the steps
    or inputs that it uses. The graph is checked when it is built, which `build` does at once
    and the first run does by itself.

    Args:
        name: As errors and the journal have it.
        resources: What is known of resources beyond the keys of the steps: other spellings,
            how strong their fences are. Those that a step names as such need not be repeated.
    """

    def __init__(self, name: str, resources: Sequence[Resource] = ()) -> None:
        if not name or not isinstance(name, str):
            raise DeclarationError(
                "workflow", "it has no name", 'Give one: uc.Workflow("renewal").'
            )
        self.name = name
        # Where it was made, for the import name under which a journal finds it again.
        self.module: str = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001
        # Filled in when it is first asked for.
        self.import_name = ""
        self._given = known_resources(f"workflow {name!r}", resources, ()).items
        self._declarations: list[_Declaration] = []
        self._program: Program | None = None

    def __repr__(self) -> str:
        return f"<undercroft workflow {self.name}: {len(self._declarations)} steps>"

    @overload
    def resolve(self, fn: F, /) -> F: ...
    @overload
    def resolve(self, reads: PlainKeys = None, /, **options: Any) -> Callable[[F], F]: ...
    def resolve(self, fn: Any = None, /, **options: Any) -> Any:
        """Declare a step that finds out what the turn is about. Options: see `step`."""
        return self._phase(Phase.RESOLVE, fn, options)

    @overload
    def read(self, fn: F, /) -> F: ...
    @overload
    def read(self, reads: PlainKeys = None, /, **options: Any) -> Callable[[F], F]: ...
    def read(self, fn: Any = None, /, **options: Any) -> Any:
        """Declare a step that reads a record: `@flow.read("crm/{account}")`."""
        return self._phase(Phase.READ, fn, options)

    @overload
    def gather(self, fn: F, /) -> F: ...
    @overload
    def gather(self, reads: PlainKeys = None, /, **options: Any) -> Callable[[F], F]: ...
    def gather(self, fn: Any = None, /, **options: Any) -> Any:
        """Declare a step that collects details; with `each="step"`, one run for each item."""
        return self._phase(Phase.GATHER, fn, options)

    @overload
    def prepare(self, fn: F, /) -> F: ...
    @overload
    def prepare(self, reads: PlainKeys = None, /, **options: Any) -> Callable[[F], F]: ...
    def prepare(self, fn: Any = None, /, **options: Any) -> Any:
        """Declare a step that works out what will be done."""
        return self._phase(Phase.PREPARE, fn, options)

    @overload
    def approve(self, fn: F, /) -> F: ...
    @overload
    def approve(self, reads: PlainKeys = None, /, **options: Any) -> Callable[[F], F]: ...
    def approve(self, fn: Any = None, /, **options: Any) -> Any:
        """Declare a gate: where it returns True the turn waits until a person says yes."""
        return self._phase(Phase.APPROVE, fn, options)

    @overload
    def execute(self, fn: F, /) -> F: ...
    @overload
    def execute(self, fn: None = None, /, **options: Any) -> Callable[[F], F]: ...
    def execute(self, fn: Any = None, /, **options: Any) -> Any:
        """Declare a step that changes the world; the only phase that may."""
        return self._phase(Phase.EXECUTE, fn, options)

    @overload
    def confirm(self, fn: F, /) -> F: ...
    @overload
    def confirm(self, reads: PlainKeys = None, /, **options: Any) -> Callable[[F], F]: ...
    def confirm(self, fn: Any = None, /, **options: Any) -> Any:
        """Declare a step whose value is what the user is told."""
        return self._phase(Phase.CONFIRM, fn, options)

    def _phase(self, phase: Phase, fn: Any, options: dict[str, Any]) -> Any:
        names = sys._getframe(2).f_locals  # noqa: SLF001  for annotations that name local types
        if getattr(fn, "__name__", "") == "<lambda>":
            raise DeclarationError(
                f"workflow {self.name!r}",
                "a lambda is no step",
                "Give a function for keys by name: reads=lambda account: …",
            )
        if callable(fn):
            self.step(phase, fn, names=names, **options)
            return fn
        if fn is not None:
            if "reads" in options:
                raise DeclarationError(
                    f"workflow {self.name!r}", "reads is given twice", "Give it once."
                )
            options["reads"] = fn

        def decorate(fn: F) -> F:
            self.step(phase, fn, names=names, **options)
            return fn

        return decorate

    def step(  # noqa: PLR0913  each keyword is one word of a declaration
        self,
        phase: Phase,
        fn: Callable[..., Any],
        *,
        peeks: Keys = None,
        reads: Keys = None,
        appends: Keys = None,
        writes: Keys = None,
        exclusive: Keys = None,
        service: str | None = None,
        each: str | None = None,
        optional: bool = False,
        verify: Callable[..., Any] | None = None,
        retry: RetryPolicy | None = None,
        timeout_s: float | None = None,
        version: Callable[[Any], object] | None = None,
        expires_s: float | None = None,
        budget: Budget | None = None,
        usd: float = 0.0,
        fallback: Any = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        """Declare `fn` as a step of `phase`; what the decorators call.

        Args:
            phase: One of the seven.
            fn: Async or not; it may also be called directly.
            peeks: Resources read without any need that they be stable.
            reads: Resources read: templates over steps and inputs, a `Resource`, a function.
            appends: Resources added to; only in phase execute, as are the next two.
            writes: Resources changed.
            exclusive: Resources that nobody else may touch meanwhile.
            service: Name of what it talks to.
            each: Name of a list; the step runs once for each item, and its value is the
                list of what came of them, in order.
            optional: Whether the turn goes on without it, degraded: dependents get None.
            verify: What can say, after a crash, whether this write happened.
            retry: When to try again; not at all if left out.
            timeout_s: Seconds that one attempt may take.
            version: Makes of what it reads what tells its states apart; a hash if left out.
            expires_s: Of a gate, the seconds for which a person's word counts.
            budget: What all attempts may spend; the runtime's for a step if left out.
            usd: What an attempt costs, in dollars.
            fallback: What stands in where it failed or its service is given up: a function of
                some of the same parameters, a tool that only reads, or a value. The turn is
                degraded then.
            names: Local names that annotations may use.

        Raises:
            DeclarationError: Something of the declaration cannot be used.
            SettingError: A number of seconds is not above 0, or nobody has to approve.
            GraphError: A step of that name exists.
        """
        title = fn.__name__
        signature = read_signature(fn, f"step {title!r} of workflow {self.name!r}", names or {})
        self._check_name(title)
        if phase is Phase.APPROVE:
            _check_gate(signature, bare=each is None and not optional)
        modes = modes_of(peeks, reads, appends, writes, exclusive)
        declared = _declared(phase, modes, signature, service)
        terms = Terms(service, timeout_s, retry, verify, version, budget, usd)
        body = make_body(title, fn, signature, declared, terms, names=names or {})
        stand_in = _stand_in(phase, title, fallback, signature, names or {})
        node = Node(title, phase, signature, declared.parameters, body.changes, optional, each)
        word_s = checked_expiry(expires_s, asks=phase is Phase.APPROVE)
        self._declarations.append(_Declaration(node, body, declared, service, word_s, stand_in))
        self._program = None

    def _check_name(self, title: str) -> None:
        if any(known.node.name == title for known in self._declarations):
            raise GraphError(
                f"workflow {self.name!r}",
                f"two steps are called {title!r}",
                "Rename one of the functions.",
                (title, title),
            )

    @property
    def resources(self) -> Resources:
        """Those that were given, and those that its steps name as such.

        Raises:
            DeclarationError: Two of them may be meant by one key.
        """
        declared = (d.declared for d in self._declarations)
        return known_resources(f"workflow {self.name!r}", self._given, declared)

    def build(self) -> Program:
        """Check the graph and return what runs it; the same again until a step is added.

        Raises:
            GraphError: Unknown name, circle, an edge that runs backwards, a type that does
                not fit. The error names both steps and the mend.
            DeclarationError: Two resources may be meant by one key.
        """
        if self._program is None:
            plan = build(self.name, [d.node for d in self._declarations])
            refuse_reserved(f"workflow {self.name!r}", plan.inputs)
            declarations = {d.node.name: d for d in self._declarations}
            resources = self.resources
            ops = tuple(_op(step, declarations[step.node.name], resources) for step in plan.steps)
            uses = (use_of(op.name, op.declared, op.body) for op in ops)
            decoders = {name: decoder(p.annotation) for name, p in plan.inputs.items()}
            wanted = tuple(len(s.dependents) + (s.index in plan.results) for s in plan.steps)
            self._program = Program(
                plan,
                ops,
                _code(plan),
                decoders,
                wanted,
                Strengths(uses, resources),
                resources,
                watched({op.name: op.declared for op in ops}),
                frozenset().union(*(op.body.secrets for op in ops)),
            )
        return self._program


def _check_gate(signature: Signature, *, bare: bool) -> None:
    place = signature.place
    if not bare:
        raise DeclarationError(
            place,
            "a gate cannot fan out or be optional",
            "Let one gate see the whole list, and make the steps after it optional.",
        )
    if not fits(signature.returns, bool):
        raise DeclarationError(
            place,
            f"a gate returns bool, not {spelled(signature.returns)}",
            "Return True where a person must say yes, and False where nobody need be asked.",
        )


def _declared(
    phase: Phase, modes: Mapping[Mode, Keys], signature: Signature, service: str | None
) -> Declared:
    place, known = signature.place, [p.name for p in signature.parameters]
    # Only a step of phase execute may change the world, so only there silence is suspect.
    try:
        declared = declare(modes, pure=phase is not Phase.EXECUTE, service=service, known=known)
    except KeyProblem as problem:
        raise DeclarationError(
            place, str(problem), "Write keys as paths, such as crm/{account}."
        ) from None
    if declared.effect.changes and phase is not Phase.EXECUTE:
        raise DeclarationError(
            place,
            f"phase {phase} may not change the world",
            "Make it a @flow.execute step, or declare reads= or peeks=.",
        )
    return declared


def _stand_in(
    phase: Phase, title: str, given: Any, signature: Signature, names: Mapping[str, Any]
) -> StandIn | None:
    place = signature.place
    if given is not None and phase is Phase.APPROVE:
        raise DeclarationError(place, "nothing stands in for a person", "Leave fallback= out.")
    if is_changing(given):
        raise DeclarationError(
            place,
            f"its fallback {given.name!r} changes the world",
            "Make that a step of its own, after this one made optional.",
        )
    return make_stand_in(place, title, given, signature, names)


def _op(step: PlanStep, declaration: _Declaration, resources: Resources) -> Op:
    node = declaration.node
    declared = respelled(f"step {node.name!r}", declaration.declared, resources)
    gate = node.phase is Phase.APPROVE
    returns = Approval if gate else node.signature.returns
    return Op(
        name=node.name,
        index=step.index,
        phase=node.phase,
        body=declaration.body,
        declared=declared,
        plan=step,
        from_steps=tuple((p, s.index) for p, s in step.sources.items() if s.kind == "step"),
        from_inputs=tuple((p, s.name) for p, s in step.sources.items() if s.kind == "input"),
        item=next((p for p, s in step.sources.items() if s.kind == "item"), None),
        optional=node.optional,
        gate=gate,
        alone=declared.effect.changes,
        decode=decoder(returns),
        claims=declared.pairs({}) if declared.fixed else (),
        key_steps=tuple((p, s.index) for p, s in step.key_sources.items() if s.kind == "step"),
        key_inputs=tuple(p for p, s in step.key_sources.items() if s.kind == "input"),
        key_item=next((p for p, s in step.key_sources.items() if s.kind == "item"), None),
        expires_s=declaration.expires_s,
        stand_in=declaration.stand_in,
    )


def _code(plan: Plan) -> bytes:
    return fingerprint(
        [
            [s.node.name, s.node.phase.value, [plan.steps[c].node.name for c in s.causes]]
            for s in plan.steps
        ]
    )
