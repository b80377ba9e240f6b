"""Resources that need more said about them than a key: other spellings, and their fence.

Keeps: every spelling of a resource becomes one and the same key before it is claimed; what
cannot be told apart is refused where it is declared.
Leaves to `policy.py`: which tool claims which of them.

A claim on what lies above an alias covers the resource too: with `customers/{id}` an alias of
`crm/{id}`, whoever claims `customers` claims `crm` with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, auto
from itertools import combinations
from urllib.parse import unquote

from undercroft.errors import DeclarationError, SettingError
from undercroft.layers.conflicts.keys import (
    EVERYTHING,
    WILD,
    KeyProblem,
    Normal,
    Segment,
    Template,
    encoded_text,
    may_meet,
    may_overlap,
    normalised,
    parse,
    template_of,
)
from undercroft.model.effect import Strength

Parts = tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource, or a kind of them, under all its names.

    It may stand wherever a key template may: `reads=account`.

    Attributes:
        key: The template under which it is claimed, such as `crm/{id}`.
        aliases: Templates that mean the same, with the same parameters.
        normal: By parameter, what makes one spelling of its values: `{"to": str.lower}`. It
            is given text and returns text, and leaves alone what it returned before.
        fence: How a lapsed owner is kept from writing, one of `Strength`; worked out from the
            tools that use it if left out.
        delay_s: Seconds after which a lapsed owner's writes can arrive no more; above 0, and
            only with `fence="delay"`.
    """

    key: str
    _: KW_ONLY
    aliases: Sequence[str] = ()
    normal: Mapping[str, Normal] | None = field(default=None, hash=False)
    fence: str | None = None
    delay_s: float = 0.0
    spellings: tuple[Template, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.aliases, str) or not isinstance(self.aliases, Sequence):
            raise self._wrong(f"aliases={self.aliases!r} is not a list", "Give a list of keys.")
        object.__setattr__(self, "aliases", tuple(self.aliases))
        spellings = tuple(self._parsed(text) for text in (self.key, *self.aliases))
        object.__setattr__(self, "spellings", spellings)
        for alias in spellings[1:]:
            if set(alias.parameters) != set(spellings[0].parameters):
                raise self._wrong(
                    f"alias {alias.text!r} has other parameters than its key",
                    "Name the same parameters in each spelling.",
                )
        for one, other in combinations(spellings, 2):
            if may_overlap(one, other):
                raise self._wrong(
                    f"{one.text!r} and {other.text!r} may be one and the same key, or lie in "
                    "each other",
                    "Drop one of them, or make one spelling of its values with normal=.",
                )
        self._check_normal(spellings[0])
        self._check_fence()

    @property
    def strength(self) -> Strength | None:
        """How strong its fence is, as far as it was declared."""
        return None if self.fence is None else Strength(self.fence)

    def _parsed(self, text: object) -> Template:
        if not isinstance(text, str):
            raise self._wrong(f"{text!r} is not a key template", "Give text, such as crm/{id}.")
        try:
            template = parse(text)
        except KeyProblem as problem:
            raise self._wrong(str(problem), "Write keys as paths, such as crm/{id}.") from None
        names = [part.name for part in template.parts if part.name]
        if len(names) > len(set(names)) or any(part == Segment(WILD) for part in template.parts):
            raise self._wrong(
                f"{text!r} names a parameter twice, or holds a *",
                "A resource is named by literals and by parameters, each of them once.",
            )
        return template

    def _check_normal(self, key: Template) -> None:
        normal = self.normal
        if normal is None:
            return
        if not isinstance(normal, Mapping):
            raise self._wrong(
                f"normal={normal!r} is no mapping", 'Give functions: {"to": str.lower}.'
            )
        object.__setattr__(self, "normal", dict(normal))
        for name, function in normal.items():
            if name not in key.parameters or not callable(function):
                raise self._wrong(
                    f"normal= says {name!r}: {function!r}, which is not a function for one of "
                    "its parameters",
                    f"Parameters: {', '.join(key.parameters) or 'none'}.",
                )

    def _check_fence(self) -> None:
        if self.fence is not None and self.fence not in list(Strength):
            raise SettingError("fence", self.fence, f"one of {', '.join(Strength)}, or None")
        if isinstance(self.delay_s, bool) or not isinstance(self.delay_s, int | float):
            raise SettingError("delay_s", self.delay_s, "a number of seconds")
        if self.fence == Strength.DELAY and not 0 < self.delay_s < float("inf"):
            raise SettingError("delay_s", self.delay_s, 'above 0 with fence="delay"')
        if self.fence != Strength.DELAY and self.delay_s != 0:
            raise SettingError("delay_s", self.delay_s, 'left out, unless fence="delay"')

    def _wrong(self, problem: str, mend: str) -> DeclarationError:
        return DeclarationError(f"resource {self.key!r}", problem, mend)


class _Fit(Enum):
    """Whether a template matches a spelling, as far as both go."""

    ALWAYS = auto()
    DEPENDS = auto()
    NEVER = auto()


Bound = dict[str, Segment]


@dataclass(frozen=True, slots=True)
class Canonical:
    """A template in the spelling under which resources are claimed.

    Attributes:
        template: As far as that can be told without values.
        besides: What it covers by other names, to be claimed with it.
        depends: Whether the values decide: then each key has to be looked at when it is known.
    """

    template: Template
    besides: tuple[Template, ...] = ()
    depends: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that a workflow or handler knows by more than their keys.

    Attributes:
        items: All of them.
    """

    items: tuple[Resource, ...] = ()
    _aliases: tuple[tuple[Parts, Parts], ...] = field(init=False, repr=False, compare=False)
    _normals: tuple[tuple[Parts, Normal], ...] = field(init=False, repr=False, compare=False)
    _fenced: tuple[Resource, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))
        for item in self.items:
            if not isinstance(item, Resource):
                raise DeclarationError(
                    "resources", f"{item!r} is not a resource", "Give uc.Resource(…) each."
                )
        aliases = [
            (alias.parts, item.spellings[0].parts)
            for item in self.items
            for alias in item.spellings[1:]
        ]
        normals = [
            (item.spellings[0].parts[: place + 1], item.normal[part.name])
            for item in self.items
            if item.normal
            for place, part in enumerate(item.spellings[0].parts)
            if part.name in item.normal
        ]
        # The outer ones first, so that the inner ones meet what these made.
        normals.sort(key=lambda rule: len(rule[0]))
        fenced = [item for item in self.items if item.fence is not None]
        fenced.sort(key=lambda item: _specific(item.spellings[0]), reverse=True)
        object.__setattr__(self, "_aliases", tuple(aliases))
        object.__setattr__(self, "_normals", tuple(normals))
        object.__setattr__(self, "_fenced", tuple(fenced))
        self._refuse_ambiguous()

    def __bool__(self) -> bool:
        return bool(self.items)

    @property
    def respells(self) -> bool:
        """Whether any key may have another spelling."""
        return bool(self._aliases or self._normals)

    def canonical(self, template: Template) -> Template:
        """Return `template` in the spelling under which its resource is claimed.

        Raises:
            KeyProblem: A `normal=` fails on a literal of it.
        """
        return self.resolve(template).template

    def resolve(self, template: Template) -> Canonical:
        """Return `template` in its spelling, and what it covers besides.

        Raises:
            KeyProblem: A `normal=` fails on a literal of it.
        """
        if not self.respells or not template.parts:
            return Canonical(template)
        parts, besides, depends = self._respelled(template.parts)
        if depends:
            return Canonical(template, depends=True)
        changed = template if parts == template.parts else template_of(parts)
        return Canonical(changed, tuple(template_of(more) for more in besides))

    def canonical_key(self, key: str) -> str:
        """Return a key in the spelling under which its resource is claimed.

        Raises:
            KeyProblem: A `normal=` fails on a part of it.
        """
        return self.canonical_keys(key)[0]

    def canonical_keys(self, key: str) -> tuple[str, ...]:
        """Return a key in its spelling, and then what it covers by other names.

        Raises:
            KeyProblem: A `normal=` fails on a part of it.
        """
        if key == EVERYTHING or not self.respells:
            return (key,)
        parts, besides, _ = self._respelled(tuple(Segment(part) for part in key.split("/")))
        return tuple("/".join(s.before for s in spelled) for spelled in (parts, *besides))

    def strength(self, key: str) -> Strength | None:
        """Return the declared strength of the most specific resource that covers a key."""
        item = self._fence_of(key)
        return None if item is None else item.strength

    def delay_s(self, key: str) -> float:
        """Return how long to wait before a write to a key whose last owner lapsed."""
        item = self._fence_of(key)
        return 0.0 if item is None else item.delay_s

    def _fence_of(self, key: str) -> Resource | None:
        if not self._fenced:
            return None
        parts = tuple(Segment(part) for part in key.split("/"))
        for item in self._fenced:
            pattern = item.spellings[0].parts
            if len(parts) >= len(pattern) and _bind(pattern, parts)[1] is _Fit.ALWAYS:
                return item
        return None

    def _respelled(self, parts: Parts) -> tuple[Parts, list[Parts], bool]:
        """Return the parts in their spelling, what they cover besides, and whether it depends."""
        besides: list[Parts] = []
        depends = False
        for alias, key in self._aliases:
            bound, fit = _bind(alias, parts)
            if fit is _Fit.NEVER:
                continue
            if len(parts) < len(alias):
                other = _put_in(key, bound)
            else:
                other = (*_put_in(key, bound, whole=True), *parts[len(alias) :])
            if fit is _Fit.ALWAYS and len(parts) >= len(alias):
                # No other alias can match: that was refused.
                parts, besides = other, []
                break
            # Where nothing more will be known, as with a *, all that it may be is claimed.
            depends = depends or (fit is _Fit.DEPENDS and any(part.name for part in parts))
            besides.append(other)
        parts, unsure = self._normalised(parts)
        besides = [self._normalised(more)[0] for more in besides]
        return parts, list(dict.fromkeys(besides)), depends or unsure

    def _normalised(self, parts: Parts) -> tuple[Parts, bool]:
        depends = False
        for pattern, normal in self._normals:
            place = len(pattern) - 1
            if len(parts) <= place:
                continue
            bound, fit = _bind(pattern, parts)
            if fit is _Fit.ALWAYS:
                made = _applied(pattern[place], bound[pattern[place].name], normal)
                depends = depends or made is None
                if made is not None:
                    parts = (*parts[:place], made, *parts[place + 1 :])
            elif fit is _Fit.DEPENDS:
                depends = depends or any(part.name for part in parts)
        return parts, depends

    def _refuse_ambiguous(self) -> None:
        spelled = [
            (item, place, t) for item in self.items for place, t in enumerate(item.spellings)
        ]
        for (mine, at, one), (theirs, there, other) in combinations(spelled, 2):
            if mine is theirs:
                continue
            twice = [p._replace(name="-") if p.name else p for p in one.parts] == [
                p._replace(name="-") if p.name else p for p in other.parts
            ]
            if twice or ((at or there) and may_overlap(one, other)):
                raise DeclarationError(
                    f"resources {mine.key!r} and {theirs.key!r}",
                    f"{one.text!r} of the one and {other.text!r} of the other may be one and "
                    "the same key, or lie in each other",
                    "Let each key belong to one resource.",
                )
        for item in self.items:
            try:
                text = self.canonical(item.spellings[0]).text
            except KeyProblem as problem:
                raise DeclarationError(
                    f"resource {item.key!r}", str(problem), "Mend its normal=."
                ) from None
            if text != template_of(item.spellings[0].parts).text:
                raise DeclarationError(
                    f"resource {item.key!r}",
                    f"its key is another spelling of {text!r}",
                    f"Write {text!r}.",
                )


NO_RESOURCES = Resources()


def _bind(pattern: Parts, parts: Parts) -> tuple[Bound, _Fit]:
    """Compare as many segments as both have; say what is known of the parameters of `pattern`."""
    bound: Bound = {}
    fit = _Fit.ALWAYS
    for wanted, given in zip(pattern, parts, strict=False):
        found = _bind_segment(wanted, given)
        if found is _Fit.NEVER:
            return {}, found
        if found is _Fit.DEPENDS:
            fit = found
        elif isinstance(found, Segment):
            bound[wanted.name] = found
    return bound, fit


def _bind_segment(wanted: Segment, given: Segment) -> Segment | _Fit:
    """Return what the parameter of `wanted` is in `given`, or whether they fit."""
    if not wanted.name and not given.name:
        same = _Fit.DEPENDS if given.before == WILD else _Fit.NEVER
        return _Fit.ALWAYS if wanted.before == given.before else same
    if wanted.name and given == Segment(WILD):
        return given if wanted.bare else _Fit.DEPENDS
    if not may_meet(wanted, given):
        return _Fit.NEVER
    if not wanted.name:
        return _Fit.DEPENDS
    size = len(wanted.before)
    if given.name:
        inside = given.before.startswith(wanted.before) and given.after.endswith(wanted.after)
        after = given.after[: len(given.after) - len(wanted.after)]
        return given._replace(before=given.before[size:], after=after) if inside else _Fit.DEPENDS
    value = given.before[size : len(given.before) - len(wanted.after)]
    # A part of a segment may be what no whole one may be.
    return _Fit.NEVER if value in (".", "..") else Segment(value)


def _put_in(key: Parts, bound: Bound, *, whole: bool = False) -> Parts:
    """Return `key` with its parameters replaced; `*` for those that nothing is known of."""
    made: list[Segment] = []
    for part in key:
        value = bound.get(part.name, Segment(WILD)) if part.name else None
        if value is None:
            made.append(part)
        elif value == Segment(WILD):
            made.append(value)
        elif value.name:
            made.append(
                value._replace(before=part.before + value.before, after=value.after + part.after)
            )
        else:
            made.append(Segment(part.before + value.before + part.after))
    # What covers every X of a kind is spelled without the last stars: it covers the same.
    while not whole and made and made[-1] == Segment(WILD):
        made.pop()
    return tuple(made)


def _applied(wanted: Segment, value: Segment, normal: Normal) -> Segment | None:
    """Return a segment with `normal` applied to its value; None where that needs the value."""
    if value == Segment(WILD):
        return Segment(WILD)
    if value.name:
        if value.before or value.after:
            return None
        made = normal if value.normal is None else _after(value.normal, normal)
        return Segment(wanted.before, value.name, wanted.after, made)
    text = unquote(value.before)
    try:
        encoded = encoded_text(normalised(text, normal))
    except KeyProblem as problem:
        msg = f"{{{wanted.name}}} is {problem}"
        raise KeyProblem(msg) from problem.__cause__
    return Segment(wanted.before + encoded + wanted.after)


def _after(first: Normal, second: Normal) -> Callable[[str], str]:
    return lambda text: normalised(normalised(text, first), second)


def _specific(template: Template) -> tuple[int, int]:
    return len(template.parts), sum(not part.name for part in template.parts)


def used_in(keys: object) -> Iterator[Resource]:
    """Yield the resources that a declaration names as such."""
    if isinstance(keys, Resource):
        yield keys
    elif isinstance(keys, Sequence) and not isinstance(keys, str | bytes):
        for key in keys:
            yield from used_in(key)
