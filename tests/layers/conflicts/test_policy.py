"""An effect is declared as key templates, and what is not declared counts as the strongest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.layers.conflicts.lint import lint_effect
from undercroft.layers.conflicts.policy import declare
from undercroft.layers.conflicts.state import runs_alone
from undercroft.model.effect import PURE, UNDECLARED, Claim, Effect, Mode
from undercroft.model.finding import Severity


def test_nothing_said_is_exclusive_or_pure() -> None:
    """Silence counts as the strongest effect, except where only purity is possible."""
    assert declare({}, pure=False).effect is UNDECLARED
    assert declare(dict.fromkeys(Mode), pure=False).effect is UNDECLARED
    assert declare(dict.fromkeys(Mode), pure=True).effect == PURE
    assert declare({Mode.READ: ()}, pure=True).effect == PURE


def test_claims_are_rendered_in_the_order_of_their_declaration() -> None:
    """Each template becomes a claim on an actual resource, in its own mode."""
    declared = declare(
        {Mode.READ: "crm/{id}", Mode.APPEND: ["mail/{to}", "log"], Mode.WRITE: None}, pure=False
    )
    assert declared.parameters == ("id", "to")
    assert not declared.fixed
    values = {"id": 7, "to": "ada@example.com", "body": object()}
    assert declared.render(values) == Effect(
        (
            Claim(Mode.READ, "crm/7"),
            Claim(Mode.APPEND, "mail/ada%40example.com"),
            Claim(Mode.APPEND, "log"),
        )
    )
    assert declared.pairs(values) == (
        ("read", "crm/7"),
        ("append", "mail/ada%40example.com"),
        ("append", "log"),
    )


def test_an_effect_without_parameters_is_always_the_same() -> None:
    """What depends on no value is rendered once."""
    declared = declare({Mode.WRITE: "crm"}, pure=False)
    assert declared.fixed
    assert declared.render({}) is declared.effect
    assert declared.pairs({}) == (("write", "crm"),)


def test_a_value_that_names_nothing_is_told_to_the_caller() -> None:
    """Where one claim cannot be rendered there is no effect at all."""
    declared = declare({Mode.READ: "crm/{id}", Mode.WRITE: "crm/{id}/{part}"}, pure=False)
    for render in (declared.render, declared.pairs):
        with pytest.raises(KeyProblem, match=r"\{part\}"):
            render({"id": 7})


@pytest.mark.parametrize(
    "keys", [7, 0, False, "", b"crm", "crm//7", ["crm", 7], [None], [b"crm"], "crm/{}", {"crm": 1}]
)
def test_a_bad_template_fails_where_it_is_written(keys: Any) -> None:
    """What is no key template is refused when it is declared."""
    with pytest.raises(KeyProblem):
        declare({Mode.READ: keys}, pure=False)


EFFECTS = st.builds(
    Effect,
    st.lists(st.builds(Claim, st.sampled_from(Mode), st.sampled_from(["crm", "mail"]))).map(tuple),
    st.booleans(),
)


@given(EFFECTS)
def test_an_effect_changes_the_world_unless_it_only_looks(effect: Effect) -> None:
    """Appending, writing and exclusive use change something; so does what was not declared."""
    looks = all(claim.mode in {Mode.PEEK, Mode.READ} for claim in effect.claims)
    assert effect.changes == (not effect.declared or not looks)
    # Today whatever changes the world runs by itself.
    assert runs_alone(effect) == effect.changes


@given(EFFECTS, st.sets(st.sampled_from(Mode)))
def test_the_keys_of_some_modes_are_those_claims(effect: Effect, modes: set[Mode]) -> None:
    """Keys are asked for by mode, and keep their order."""
    assert effect.keys(*modes) == tuple(c.key for c in effect.claims if c.mode in modes)


@pytest.mark.parametrize(
    ("service", "scope"), [("smtp", "service 'smtp'"), (None, "over everything")]
)
def test_an_effect_that_was_not_declared_is_named(service: str | None, scope: str) -> None:
    """Silence is safe, and `check` says what it costs and how to end it."""
    assert lint_effect("tool 'send'", PURE, service) == []
    (finding,) = lint_effect("tool 'send'", UNDECLARED, service)
    assert finding.rule == "conflicts.undeclared_effect"
    assert finding.severity is Severity.WARNING
    assert finding.place == "tool 'send'"
    assert scope in finding.message
    assert "reads=" in finding.mend
