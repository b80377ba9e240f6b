"""What a user declares about resources: the effect of a tool or a step, as key templates.

Keeps: a bad template fails where it is written; an effect that is not declared counts as
exclusive over its service, or over everything where it names none.

Keys may also come from a function of the arguments. It is given those that its parameters
name, and returns one path or a list of them. What it is not given yet, or what is None and
not so by default, makes it claim everything. It must return the same for the same arguments,
and encode what may hold a slash: `f"mail/{quote(to, safe='')}"`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any
from urllib.parse import quote

from undercroft.layers.conflicts.keys import (
    EVERYTHING,
    KeyProblem,
    Segment,
    Template,
    anything,
    may_overlap,
    normal_key,
    parse,
    refuse_too_many,
    template_of,
)
from undercroft.layers.conflicts.resource import NO_RESOURCES, Resource, Resources
from undercroft.model.effect import UNDECLARED, Claim, Effect, Mode

KeyOf = Callable[..., str | Sequence[str]]
PlainKeys = str | Resource | Sequence[str | Resource] | None
Keys = str | Resource | KeyOf | Sequence[str | Resource | KeyOf] | None

Pairs = tuple[tuple[str, str], ...]

# Stands before every key of a service as such. No key of a user's can begin like this.
SERVICES = "!service"


# With more keys than this, each rendering looks for what is claimed twice.
_FEW = 16


@dataclass(frozen=True, slots=True)
class KeyFunction:
    """A function that makes keys of the arguments.

    Attributes:
        name: As it is shown.
        asks: The arguments that it is given.
        needs: Those of them that it cannot do without; the others have a default.
        nullable: Those that may be None: by default, or among all that `**` takes.
    """

    name: str
    fn: KeyOf
    asks: tuple[str, ...]
    needs: tuple[str, ...]
    nullable: frozenset[str]

    def keys(self, values: Mapping[str, object]) -> list[str]:
        """Return the keys for `values`, or everything where they are not enough.

        Raises:
            KeyProblem: It raised something, or returned what is no key.
        """
        given = {name: values[name] for name in self.asks if name in values}
        unknown = any(name not in given for name in self.needs) or any(
            value is None and name not in self.nullable for name, value in given.items()
        )
        if unknown:
            return [EVERYTHING]
        try:
            made: object = self.fn(**given)
        except Exception as error:
            msg = f"{self.name} raised {type(error).__name__}: {error}"
            raise KeyProblem(msg) from error
        several: Iterable[object] = (made,)
        if isinstance(made, list | tuple | set | frozenset):
            refuse_too_many(self.name, len(made))
            several = made
        keys = []
        for key in several:
            if not isinstance(key, str):
                msg = f"{self.name} returned a {type(key).__name__} for a key, not text"
                raise KeyProblem(msg)
            try:
                keys.append(normal_key(key))
            except KeyProblem as problem:
                msg = f"{self.name} returned a key that cannot be used: {problem}"
                raise KeyProblem(msg) from None
        return sorted(keys) if isinstance(made, set | frozenset) else keys


@dataclass(frozen=True, slots=True)
class _Respelled:
    """Keys of which only the values say under which spelling they are claimed."""

    source: Template | KeyFunction
    resources: Resources

    def keys(self, values: Mapping[str, object]) -> list[str]:
        known = self.source.keys(values)
        return [key for raw in known for key in self.resources.canonical_keys(raw)]


Source = Template | KeyFunction | _Respelled


@dataclass(frozen=True, slots=True)
class Declared:
    """An effect whose keys are still templates.

    Attributes:
        effect: The claims with their templates as keys; of a function, its name.
        templates: For each claim in the same order, a template that may yield all its keys.
        fixed: Whether no key depends on a value, so that every rendering is the same.
        sources: What makes the keys of each claim.
        implicit: What is claimed besides, because of the service.
        used: The resources that were named as such.
        resources: Those whose spellings it was brought to.
        modes: The mode and the template of each claim.
    """

    effect: Effect
    templates: tuple[Template, ...]
    fixed: bool
    sources: tuple[Source, ...] = ()
    implicit: Pairs = ()
    used: tuple[Resource, ...] = ()
    resources: Resources = NO_RESOURCES
    modes: tuple[tuple[str, Template], ...] = field(init=False, repr=False)
    # Whether keys can be rendered one by one, each claim being one and none the same.
    _quick: bool = field(init=False, repr=False)
    _always: Pairs = field(init=False, repr=False)
    _held: Pairs = field(init=False, repr=False)
    _rendered: Effect = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", self.templates)
        refuse_too_many("a step", len(self.templates))
        modes = tuple(
            (claim.mode.value, template)
            for claim, template in zip(self.effect.claims, self.templates, strict=True)
        )
        few = len(modes) <= _FEW and all(isinstance(source, Template) for source in self.sources)
        quick = few and not any(
            mode == other and len(one.parts) == len(two.parts) and may_overlap(one, two)
            for (mode, one), (other, two) in combinations(modes, 2)
        )
        object.__setattr__(self, "modes", modes)
        object.__setattr__(self, "_quick", quick)
        always = self._pairs({}) if self.fixed else ()
        object.__setattr__(self, "_always", always)
        object.__setattr__(self, "_held", always + self.implicit)
        effect = self.effect
        if self.fixed and always != tuple((c.mode.value, c.key) for c in effect.claims):
            effect = _effect_of(always, declared=effect.declared)
        object.__setattr__(self, "_rendered", effect)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names that the keys take values from, each once."""
        return tuple(dict.fromkeys(name for t in self.templates for name in t.parameters))

    @property
    def claims(self) -> tuple[tuple[str, Template], ...]:
        """The mode and the template of each claim, those because of the service included."""
        return self.modes + tuple((mode, _literal(key)) for mode, key in self.implicit)

    def render(self, values: Mapping[str, object]) -> Effect:
        """Return the effect on actual resources, as far as `values` go.

        Raises:
            KeyProblem: A value cannot stand in a key.
        """
        if self.fixed:
            return self._rendered
        return _effect_of(self.pairs(values), declared=self.effect.declared)

    def pairs(self, values: Mapping[str, object]) -> Pairs:
        """Return the claims on actual resources as (mode, key), as the journal keeps them.

        A value that is missing or None leaves the longest known prefix; a list makes a claim
        for each of its items. No pair comes twice.

        Raises:
            KeyProblem: A value cannot stand in a key, or there are more than `KEYS_MAX`.
        """
        if self.fixed:
            return self._always
        if self._quick:
            try:
                return tuple([(mode, template.render(values)) for mode, template in self.modes])
            except KeyProblem:
                pass  # a value that is not known yet or a list; or else it is raised again
        return self._pairs(values)

    def held(self, values: Mapping[str, object]) -> Pairs:
        """Return what the step must hold: its pairs, and what follows from its service.

        Raises:
            KeyProblem: As with `pairs`.
        """
        if self.fixed:
            return self._held
        return self.pairs(values) + self.implicit if self.implicit else self.pairs(values)

    def under(self, resources: Resources) -> Declared:
        """Return the same with every key in the spelling under which `resources` claim it.

        Raises:
            KeyProblem: A `normal=` fails on a literal of a key.
        """
        if not resources.respells or not self.templates or resources == self.resources:
            return self
        claims: list[Claim] = []
        templates: list[Template] = []
        sources: list[Source] = []
        for claim, template, source in zip(
            self.effect.claims, self.templates, self.sources, strict=True
        ):
            made = resources.resolve(template)
            if made.depends or not isinstance(source, Template):
                # Nobody can say yet what it may yield.
                claims.append(claim)
                templates.append(anything(claim.key, template.parameters))
                sources.append(_Respelled(_unspelled(source), resources))
                continue
            for spelled in (made.template, *made.besides):
                claims.append(claim if spelled is template else Claim(claim.mode, spelled.text))
                templates.append(spelled)
                sources.append(spelled)
        if tuple(sources) == self.sources:
            return self
        return Declared(
            Effect(tuple(claims), self.effect.declared),
            tuple(templates),
            self.fixed,
            tuple(sources),
            self.implicit,
            self.used,
            resources,
        )

    def _pairs(self, values: Mapping[str, object]) -> Pairs:
        several = [source.keys(values) for source in self.sources]
        refuse_too_many("a step", sum(len(keys) for keys in several))
        modes = (claim.mode.value for claim in self.effect.claims)
        return tuple(
            dict.fromkeys(
                (mode, key) for mode, keys in zip(modes, several, strict=True) for key in keys
            )
        )


def modes_of(
    peeks: Keys, reads: Keys, appends: Keys, writes: Keys, exclusive: Keys
) -> dict[Mode, Keys]:
    """Return the keys of a declaration by mode, from weakest to strongest."""
    return dict(zip(Mode, (peeks, reads, appends, writes, exclusive), strict=True))


def declare(
    modes: Mapping[Mode, Keys],
    *,
    pure: bool,
    service: str | None = None,
    known: Sequence[str] = (),
) -> Declared:
    """Return the effect that `modes` spell; with nothing said it is pure or undeclared.

    Args:
        modes: The keys of each mode.
        pure: What it is where nothing is said.
        service: Name of what it talks to. Whoever says nothing about resources is exclusive
            over it, and whoever says something shares it with all others who do.
        known: Arguments that a function for keys may be given, where it can do without.

    Raises:
        KeyProblem: A template breaks the grammar, or a function cannot be called by name.
    """
    claims: list[Claim] = []
    templates: list[Template] = []
    sources: list[Source] = []
    used: list[Resource] = []
    for mode, keys in modes.items():
        for key in _listed(keys):
            if isinstance(key, Resource):
                used.append(key)
            source, template = _source(mode, key, known)
            claims.append(Claim(mode, template.text))
            templates.append(template)
            sources.append(source)
    key_of_service = service_key(service)
    if not claims and not pure:
        held = ((Mode.EXCLUSIVE.value, key_of_service),)
        return Declared(UNDECLARED, (), fixed=True, implicit=held)
    fixed = not any(not isinstance(s, Template) or s.parameters for s in sources)
    shared = ((Mode.PEEK.value, key_of_service),) if key_of_service else ()
    return Declared(
        Effect(tuple(claims)),
        tuple(templates),
        fixed,
        tuple(sources),
        shared,
        tuple(dict.fromkeys(used)),
    )


def service_key(service: str | None) -> str:
    """Return the reserved key of a service as such; everything where there is none."""
    return f"{SERVICES}/{quote(service, safe='')}" if service else EVERYTHING


def _listed(keys: object) -> Iterable[object]:
    if keys is None:
        return ()
    return keys if isinstance(keys, Sequence) and not isinstance(keys, str | bytes) else (keys,)


def _source(mode: Mode, key: object, known: Sequence[str]) -> tuple[Source, Template]:
    if isinstance(key, Resource):
        key = key.key
    if isinstance(key, str):
        template = parse(key)
        return template, template
    if callable(key):
        function = _function(key, known)
        return function, anything(function.name, function.asks)
    msg = f"{key!r}, given for {mode}, is not a key template"
    raise KeyProblem(msg)


def _function(fn: Callable[..., Any], known: Sequence[str]) -> KeyFunction:
    name = f"<{getattr(fn, '__name__', type(fn).__name__).strip('<>')}>"
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        msg = f"{name} does not say which arguments it takes; wrap it in a function that does"
        raise KeyProblem(msg) from None
    if inspect.iscoroutinefunction(inspect.unwrap(fn)):
        msg = f"{name} is async; keys are made by a plain function of the arguments"
        raise KeyProblem(msg)
    asks: list[str] = []
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL):
            msg = f"parameter {p} of {name} cannot be filled in by name"
            raise KeyProblem(msg)
        if p.kind is p.VAR_KEYWORD:
            asks += known
        elif p.default is p.empty or p.name in known:
            asks.append(p.name)
    named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    return KeyFunction(
        name,
        fn,
        tuple(dict.fromkeys(asks)),
        tuple(p.name for p in named if p.default is p.empty),
        # Whoever takes all there is sees for itself what is None.
        frozenset(
            {p.name for p in named if p.default is None} | set(asks) - {p.name for p in named}
        ),
    )


def _unspelled(source: Source) -> Template | KeyFunction:
    return source.source if isinstance(source, _Respelled) else source


def _effect_of(pairs: Pairs, *, declared: bool) -> Effect:
    return Effect(tuple(Claim(Mode(mode), key) for mode, key in pairs), declared)


def _literal(key: str) -> Template:
    """Return the template of a key that depends on nothing."""
    return template_of(_segments(key)) if key else anything(EVERYTHING)


def _segments(key: str) -> Iterator[Segment]:
    return (Segment(part) for part in key.split("/"))
