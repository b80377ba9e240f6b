"""What a user declares about resources: the effect of a tool or a step, as key templates.

Keeps: a bad template fails where it is written; an effect that is not declared counts as
exclusive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from undercroft.layers.conflicts.keys import KeyProblem, Template, parse
from undercroft.model.effect import UNDECLARED, Claim, Effect, Mode

Keys = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Declared:
    """An effect whose keys are still templates.

    Attributes:
        effect: The claims with their templates as keys.
        templates: The parsed template of each claim, in the same order.
        fixed: Whether no template has a parameter, so that every rendering is `effect`.
    """

    effect: Effect
    templates: tuple[Template, ...]
    fixed: bool
    modes: tuple[tuple[str, Template], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        modes = (claim.mode.value for claim in self.effect.claims)
        object.__setattr__(self, "modes", tuple(zip(modes, self.templates, strict=False)))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names that the templates take values from, each once."""
        return tuple(dict.fromkeys(name for t in self.templates for name in t.parameters))

    def render(self, values: Mapping[str, object]) -> Effect:
        """Return the effect on actual resources.

        Raises:
            KeyProblem: A value cannot stand in a key.
        """
        if self.fixed:
            return self.effect
        claims = zip(self.effect.claims, self.templates, strict=True)
        return Effect(
            tuple(Claim(claim.mode, template.render(values)) for claim, template in claims),
            declared=self.effect.declared,
        )

    def pairs(self, values: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
        """Return the claims on actual resources as (mode, key), as the journal keeps them.

        Raises:
            KeyProblem: A value cannot stand in a key.
        """
        return tuple([(mode, template.render(values)) for mode, template in self.modes])


def declare(modes: Mapping[Mode, Keys], *, pure: bool) -> Declared:
    """Return the effect that `modes` spell; with nothing said it is pure or undeclared.

    Raises:
        KeyProblem: A template breaks the grammar.
    """
    claims: list[Claim] = []
    templates: list[Template] = []
    for mode, keys in modes.items():
        several = isinstance(keys, Sequence) and not isinstance(keys, str | bytes)
        for key in () if keys is None else keys if several else [keys]:
            if not isinstance(key, str):
                msg = f"{key!r}, given for {mode}, is not a key template"
                raise KeyProblem(msg)
            templates.append(parse(key))
            claims.append(Claim(mode, key))
    if not claims and not pure:
        return Declared(UNDECLARED, (), fixed=True)
    fixed = not any(template.parameters for template in templates)
    return Declared(Effect(tuple(claims)), tuple(templates), fixed)
