"""An effect is declared as key templates, and what is not declared counts as the strongest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.conflicts.keys import KeyProblem
from undercroft.layers.conflicts.lint import lint_effect
from undercroft.layers.conflicts.policy import declare
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


@pytest.mark.parametrize("value", ["", "..", "a\0b", "x" * 10_000, True, 1.0, {"a": 1}])
def test_a_value_that_names_nothing_is_told_to_the_caller(value: Any) -> None:
    """Where one claim cannot be rendered there is no effect at all."""
    declared = declare({Mode.READ: "crm/{id}", Mode.WRITE: "crm/{id}/{part}"}, pure=False)
    for render in (declared.render, declared.pairs, declared.held):
        with pytest.raises(KeyProblem, match=r"\{part\}"):
            render({"id": 7, "part": value})


def test_what_is_not_known_yet_leaves_a_prefix() -> None:
    """A value that is missing or None claims all that the key may still become."""
    declared = declare({Mode.READ: "crm/{id}", Mode.WRITE: "crm/{id}/{part}"}, pure=False)
    assert declared.pairs({}) == (("read", "crm"), ("write", "crm"))
    for values in ({"id": 7}, {"id": 7, "part": None}):
        assert declared.pairs(values) == (("read", "crm/7"), ("write", "crm/7"))
        assert declared.render(values).keys(Mode.WRITE) == ("crm/7",)
    assert declare({Mode.WRITE: "{a}"}, pure=False).pairs({}) == (("write", ""),)


def test_a_list_is_a_claim_an_item() -> None:
    """A tool that takes several ids claims each of them, and no claim comes twice."""
    declared = declare({Mode.WRITE: ["crm/{ids}", "crm/{id}"], Mode.READ: "log"}, pure=False)
    assert declared.pairs({"ids": ["a", "b", "a"], "id": "b"}) == (
        ("write", "crm/a"),
        ("write", "crm/b"),
        ("read", "log"),
    )
    assert declared.pairs({"ids": [], "id": "b"}) == (("write", "crm/b"), ("read", "log"))
    assert declared.pairs({"ids": "b", "id": "b"}) == (("write", "crm/b"), ("read", "log"))


def test_a_read_beside_a_write_is_kept() -> None:
    """That a step reads what it writes is worth knowing, so no weaker claim gets lost."""
    declared = declare({Mode.READ: "crm/{id}", Mode.WRITE: "crm/{id}"}, pure=False)
    assert declared.pairs({"id": 7}) == (("read", "crm/7"), ("write", "crm/7"))


@pytest.mark.parametrize("many", [{"ids": ["x"] * 10_000}, {"ids": [str(n) for n in range(600)]}])
def test_a_step_claims_no_thousands_of_keys(many: dict[str, Any]) -> None:
    """The limit is on all claims of a step together; the message says how many there are."""
    declared = declare({Mode.READ: "a/{ids}", Mode.WRITE: "b/{ids}"}, pure=False)
    with pytest.raises(KeyProblem, match=r"(10,000|1,200) keys; a step may claim 1,000"):
        declared.pairs(many)


# Functions


def by_owner(owner: str, name: str = "all", folder: str | None = None) -> list[str]:
    """Return keys that no template could make."""
    return [f"drive/{owner.lower()}", f"drive/{name}{f'/{folder}' if folder else ''}"]


def test_keys_may_come_from_a_function_of_the_arguments() -> None:
    """It is given the arguments that it names, and what it returns is brought to normal form."""
    declared = declare(
        {Mode.READ: by_owner, Mode.WRITE: "log/{owner}"},
        pure=False,
        known=["owner", "folder", "other"],
    )
    assert declared.parameters == ("owner", "folder")
    assert [c.key for c in declared.effect.claims] == ["<by_owner>", "log/{owner}"]
    assert not declared.fixed
    assert declared.templates[0].may_yield("any/thing")
    assert declared.pairs({"owner": "Ada", "folder": "a b", "other": 1}) == (
        ("read", "drive/ada"),
        ("read", "drive/all/a%20b"),
        ("write", "log/Ada"),
    )
    assert declared.pairs({"owner": "Ada", "folder": None})[1] == ("read", "drive/all")


def test_a_function_may_take_all_arguments() -> None:
    """With `**` it is given whatever there is, None included."""

    def key(**given: Any) -> str:
        return "/".join(f"{name}-{value}" for name, value in given.items())

    declared = declare({Mode.READ: key}, pure=False, known=["a", "b"])
    assert declared.pairs({"a": 1, "b": None}) == (("read", "a-1/b-None"),)


@pytest.mark.parametrize("values", [{}, {"owner": None}, {"owner": "a", "name": None}])
def test_a_function_that_cannot_be_asked_yet_claims_everything(values: dict[str, Any]) -> None:
    """What is missing, or None and not so by default, never ends up in a key as text."""
    declared = declare({Mode.READ: by_owner}, pure=False, known=["owner", "name"])
    assert declared.pairs(values) == (("read", ""),)


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (7, "returned a int for a key"),
        (None, "returned a NoneType for a key"),
        (["crm/7", 7], "returned a int for a key"),
        ("", "must not be empty"),
        ("crm/..", "cannot name a resource"),
        ("crm/%2e%2e", "cannot name a resource"),
        ("crm/a\0b", "cannot name a resource"),
        ("x" * 10_000, "a key may have 8,192"),
        ([f"crm/{n}" for n in range(10_000)], "10,000 keys"),
    ],
    ids=lambda made: repr(made)[:20],
)
def test_what_a_function_returns_is_checked(made: Any, problem: str) -> None:
    """A function that returns what is no key is named with what was wrong."""

    def key() -> Any:
        return made

    with pytest.raises(KeyProblem, match=problem) as caught:
        declare({Mode.READ: key}, pure=False).pairs({})
    assert "<key>" in str(caught.value)


def test_what_a_function_raises_is_a_key_problem() -> None:
    """The call is refused with the function's own words, and its error as the cause."""

    def key(a: str) -> str:
        raise LookupError(a)

    with pytest.raises(KeyProblem, match="<key> raised LookupError: 7") as caught:
        declare({Mode.READ: key}, pure=False).pairs({"a": "7"})
    assert isinstance(caught.value.__cause__, LookupError)


async def later(a: str) -> str:
    """Be of no use as keys."""
    return a


@pytest.mark.parametrize("fn", [later, lambda *a: a[0], lambda a, /: a, dict.fromkeys, str])
def test_a_function_that_cannot_be_called_by_name_is_refused(fn: Any) -> None:
    """What is async or takes nameless arguments is refused when it is declared."""
    with pytest.raises(KeyProblem):
        declare({Mode.READ: fn}, pure=False)


# Services


def test_what_is_not_declared_is_exclusive_over_its_service() -> None:
    """Silence holds the service, or everything; whoever said something shares its service."""
    silent = declare({}, pure=False, service="crm")
    assert silent.held({}) == (("exclusive", "!service/crm"),)
    assert (silent.pairs({}), silent.effect) == ((), UNDECLARED)
    assert declare({}, pure=False).held({}) == (("exclusive", ""),)
    said = declare({Mode.READ: "crm/{id}"}, pure=False, service="crm")
    assert said.held({"id": 7}) == (("read", "crm/7"), ("peek", "!service/crm"))
    assert said.pairs({"id": 7}) == (("read", "crm/7"),)
    assert said.effect == Effect((Claim(Mode.READ, "crm/{id}"),))
    assert declare({Mode.READ: "x"}, pure=False, service="a/b").held({}) == (
        ("read", "x"),
        ("peek", "!service/a%2Fb"),
    )
    assert declare({}, pure=True, service="crm").held({}) == (("peek", "!service/crm"),)
    assert declare({}, pure=True).held({}) == ()
    assert declare({Mode.READ: "x"}, pure=True).held({}) == (("read", "x"),)


def test_a_service_never_meets_a_key_of_a_user() -> None:
    """No template and no function can spell the reserved key."""
    with pytest.raises(KeyProblem):
        declare({Mode.READ: "!service/crm"}, pure=False)
    made = declare({Mode.READ: [lambda: "!service/crm", "{a}/crm"]}, pure=False)
    assert made.pairs({"a": "!service"}) == (("read", "%21service/crm"),)


def test_what_races_are_looked_for_in_includes_the_service() -> None:
    """Each claim as mode and template, those because of the service included."""
    claims = declare({Mode.READ: "crm/{id}"}, pure=False, service="crm").claims
    assert [(mode, t.text) for mode, t in claims] == [
        ("read", "crm/{id}"),
        ("peek", "!service/crm"),
    ]
    ((mode, template),) = declare({}, pure=False).claims
    assert (mode, template.text, template.parts) == ("exclusive", "", ())


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
