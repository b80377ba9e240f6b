"""What a model proposes is checked before it runs, and what does not fit says how to mend it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from undercroft.errors import DeclarationError
from undercroft.layers.sequencing.arguments import (
    ARGUMENTS_BYTES_MAX,
    Accepted,
    ArgumentCheck,
)
from undercroft.layers.sequencing.signature import REQUIRED, Parameter, Signature
from undercroft.model.step import Refusal


class Colour(Enum):
    """One of a few."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A dataclass of a user."""

    x: int
    label: str = "none"


class Refused:
    """A class of which nobody knows how to make one from JSON."""


class Account(BaseModel):
    """A pydantic model of a user."""

    id: str
    tags: list[str] = []


def check_of(**annotations: Any) -> ArgumentCheck:
    """Return the check of a tool whose parameters, all required, have these annotations."""
    return check([Parameter(name, t, REQUIRED) for name, t in annotations.items()])


def check(parameters: list[Parameter]) -> ArgumentCheck:
    """Return the check of a tool with these parameters."""
    return ArgumentCheck(Signature("tool 'work'", tuple(parameters), {}, Any, is_async=True))


def refused(answer: Accepted | Refusal, rule: str = "sequencing.arguments") -> Refusal:
    """Return a refusal that a model can read and a journal can keep."""
    assert isinstance(answer, Refusal)
    assert answer.rule == rule
    assert "work" in answer.message
    assert answer.next
    assert len(answer.message) < 4_000
    msgspec.msgpack.encode(answer)
    json.loads(msgspec.json.encode(answer))
    return answer


# Any schema


@dataclass(frozen=True)
class Kind:
    """A type of argument: what is proposed for it and what a tool is then passed."""

    annotation: Any
    valid: st.SearchStrategy[tuple[Any, Any]]
    invalid: st.SearchStrategy[Any]


def same(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Return values that are passed as they are proposed."""
    return values.map(lambda value: (value, value))


INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DATES = st.dates(date(1, 1, 1), date(9999, 12, 31))

KINDS = [
    Kind(int, same(INTEGERS), st.sampled_from(["7", 1.5, None, True, [], {}, ""])),
    Kind(float, same(FLOATS), st.sampled_from(["1.5", None, True, [], {}])),
    Kind(str, same(TEXT), st.sampled_from([7, 1.5, None, True, [], {}])),
    Kind(bool, same(st.booleans()), st.sampled_from([0, 1, "true", None, [], {}])),
    Kind(list[int], same(st.lists(INTEGERS, max_size=3)), st.sampled_from([7, ["x"], {}, None])),
    Kind(
        dict[str, int],
        same(st.dictionaries(TEXT, INTEGERS, max_size=3)),
        st.sampled_from([7, [], {"a": "x"}, None]),
    ),
    Kind(Literal["a", "b"], same(st.sampled_from("ab")), st.sampled_from(["c", "", 1, None])),
    Kind(int | None, same(INTEGERS | st.none()), st.sampled_from(["7", 1.5, [], {}])),
    Kind(
        Colour,
        st.sampled_from(Colour).map(lambda c: (c.value, c)),
        st.sampled_from(["green", "RED", 0, None]),
    ),
    Kind(date, DATES.map(lambda d: (d.isoformat(), d)), st.sampled_from(["yesterday", "", None])),
    Kind(
        UUID,
        st.uuids().map(lambda u: (str(u), u)),
        st.sampled_from(["not-a-uuid", 7, None]),
    ),
    Kind(
        set[int],
        st.sets(INTEGERS, max_size=3).map(lambda s: (sorted(s), s)),
        st.sampled_from([7, ["x"], None]),
    ),
    Kind(
        tuple[int, str],
        st.tuples(INTEGERS, TEXT).map(lambda t: (list(t), t)),
        st.sampled_from([[1], [1, "a", 2], ["a", 1], None]),
    ),
    Kind(
        Point,
        st.builds(lambda x, label: ({"x": x, "label": label}, Point(x, label)), INTEGERS, TEXT),
        st.sampled_from([{}, {"x": "7"}, 7, [], None]),
    ),
    Kind(
        Account,
        TEXT.map(lambda name: ({"id": name}, Account(id=name))),
        st.sampled_from([{}, {"id": 7}, {"id": "a", "tags": "b"}, 7, None]),
    ),
    Kind(
        Annotated[int, Field(gt=0, description="How many.")],
        same(st.integers(1, 2**63 - 1)),
        st.sampled_from([0, -1, "1", None]),
    ),
]

# Names that mean something to those who build or check the schema.
NAMES = st.sampled_from(
    [
        *("schema", "copy", "json", "model_config", "model_fields", "validate", "dict", "a0", "a1"),
        *("self", "cls", "tool", "arguments", "class_", "_private", "__len__", "ümlaut", "x", "y"),
    ]
)


@dataclass
class Case:
    """A schema, and arguments that fit it."""

    kinds: dict[str, Kind]
    check: ArgumentCheck
    required: list[str] = field(default_factory=list)
    proposed: dict[str, Any] = field(default_factory=dict)
    passed: dict[str, Any] = field(default_factory=dict)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a schema of up to four parameters, some with defaults, and arguments for it."""
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    kinds = {name: draw(st.sampled_from(KINDS)) for name in names}
    needed = {name: draw(st.booleans()) for name in names}
    parameters = [
        Parameter(name, kind.annotation, REQUIRED if needed[name] else None)
        for name, kind in kinds.items()
    ]
    case = Case(kinds, check(parameters), [name for name in names if needed[name]])
    for name, kind in kinds.items():
        if needed[name] or draw(st.booleans()):
            case.proposed[name], case.passed[name] = draw(kind.valid)
    return case


def forms(arguments: dict[str, Any]) -> list[dict[str, Any] | str]:
    """Return arguments as handlers and as models write them."""
    return [arguments, json.dumps(arguments), json.dumps(arguments, ensure_ascii=False, indent=1)]


@given(cases())
def test_what_fits_is_passed_with_its_types(case: Case) -> None:
    """Arguments that fit are passed as the annotations say, and nothing is added to them."""
    for form in forms(case.proposed):
        answer = case.check.check("work", form)
        assert isinstance(answer, Accepted)
        assert answer.proposed == case.proposed
        assert answer.passed == case.passed
        for name, value in case.passed.items():
            assert isinstance(answer.passed[name], type(value))


@given(cases(), st.data())
def test_what_does_not_fit_names_the_argument(case: Case, data: st.DataObject) -> None:
    """One bad argument among good ones is refused, and the refusal says which and why."""
    if not case.kinds:
        return
    name = data.draw(st.sampled_from(sorted(case.kinds)))
    bad = data.draw(case.kinds[name].invalid)
    for form in forms(case.proposed | {name: bad}):
        refusal = refused(case.check.check("work", form))
        assert all(p["argument"].startswith(name) for p in refusal.facts["problems"])
        assert f"{name}" in refusal.message


@given(cases(), st.data())
def test_what_is_missing_or_too_much_is_named(case: Case, data: st.DataObject) -> None:
    """A required argument that is missing, and one that nobody takes, are named."""
    faults: dict[str, dict[str, Any]] = {"nobody": case.proposed | {"nobody": 1}}
    if case.required:
        lost = data.draw(st.sampled_from(case.required))
        faults[lost] = {n: v for n, v in case.proposed.items() if n != lost}
    for name, arguments in faults.items():
        for form in forms(arguments):
            refusal = refused(case.check.check("work", form))
            assert [p["argument"] for p in refusal.facts["problems"]] == [name]
            assert name in refusal.message


@given(cases())
def test_the_schema_says_what_is_asked_for(case: Case) -> None:
    """What a model is told: the parameters by their names, and which of them are needed."""
    schema = case.check.schema
    assert schema["type"] == "object"
    assert set(schema["properties"]) == set(case.kinds)
    assert set(schema.get("required", [])) == set(case.required)
    assert schema["additionalProperties"] is False
    assert "title" not in schema
    json.dumps(schema)


# What models really write

ONE = check_of(n=int)
TEXT_NOTE = check([Parameter("n", int, REQUIRED), Parameter("s", str, "")])


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_nothing_is_an_empty_object(text: str) -> None:
    """A model that has nothing to say may say nothing."""
    assert check([]).check("work", text) == Accepted({}, {})
    assert refused(ONE.check("work", text)).facts["problems"][0]["argument"] == "n"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"n": 1',
        '{"n": 1} and so on',
        "{'n': 1}",
        '{"n": 1,}',
        '{"n": NaN}',
        '{"n": Infinity}',
        '{"n": 1e999}',
        '{"n": 01}',
        "n=1",
        '\ufeff{"n": 1}',
        '{"n": 1, "s": "\ud800"}',
        '{"n": 1, "s": "\\ud800"}',
        '{"n": 1, "\\udc00": 1}',
        '{"n": %s}' % ("9" * 5_000),
        '{"n": 1, "s": "\x00"}',
        "{" * 100_000,
        '{"n":' * 40_000,
        '{"n": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda text: text[:24],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    """Broken JSON, however it is broken, is a refusal that asks for one object."""
    refusal = refused(TEXT_NOTE.check("work", text), "sequencing.arguments_not_json")
    assert "one JSON object" in refusal.next


@pytest.mark.parametrize("text", ["[]", '["n", 1]', "1", '"n"', "null", "true", '[{"n": 1}]'])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    """Arguments have names."""
    refusal = refused(ONE.check("work", text), "sequencing.arguments_not_json")
    assert "not an object" in refusal.message


def test_arguments_that_are_far_too_long_are_refused_by_their_size() -> None:
    """Megabytes are refused before anybody parses them, and the refusal does not repeat them."""
    text = json.dumps({"n": 1, "s": "x" * 5_000_000})
    for form in (text, json.loads(text), "x" * 5_000_000):
        refusal = refused(TEXT_NOTE.check("work", form), "sequencing.arguments_too_large")
        assert refusal.facts["limit_bytes"] == ARGUMENTS_BYTES_MAX
        assert refusal.facts["size_bytes"] > 5_000_000 - 1
    just = {"n": 1, "s": "x" * (ARGUMENTS_BYTES_MAX - len('{"n":1,"s":""}'))}
    assert isinstance(TEXT_NOTE.check("work", just), Accepted)


def test_a_refusal_stays_short() -> None:
    """However much is wrong, a refusal shows a few problems and a little of each."""
    many = {f"extra{k}": "y" * 1_000 for k in range(100)} | {"k" * 100_000: 1}
    refusal = refused(ONE.check("work", many))
    assert len(refusal.facts["problems"]) <= 8
    assert len(msgspec.json.encode(refusal)) < 6_000


def test_deep_arguments_do_not_overflow_the_stack() -> None:
    """Whatever is nested deeper than anybody can check is refused, not raised."""
    deep = check_of(tree=list)
    for depth in (10, 100):
        nested: Any = []
        for _ in range(depth):
            nested = [nested]
        assert isinstance(deep.check("work", {"tree": nested}), Accepted)
    for depth in (1_000, 100_000):
        nested = []
        for _ in range(depth):
            nested = [nested]
        assert isinstance(deep.check("work", {"tree": nested}), Refusal)
    ring: list[Any] = []
    ring.append(ring)
    refused(deep.check("work", {"tree": ring}), "sequencing.arguments_not_json")


@pytest.mark.parametrize("text", ['{"n": "x", "n": 2}', '{"n": 1, "n": 2}', '{"n": {}, "n": 2}'])
def test_of_a_name_given_twice_the_last_counts(text: str) -> None:
    """What is recorded and what is passed are the same of two."""
    assert ONE.check("work", text) == Accepted({"n": 2}, {"n": 2})


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30, -(10**30)])
def test_a_number_that_cannot_be_recorded_is_refused(number: int) -> None:
    """An integer of more than 64 bits, wherever it stands, never reaches a tool."""
    for form in forms({"n": number}):
        refusal = refused(ONE.check("work", form), "sequencing.arguments_not_json")
        assert "smaller number" in refusal.next
    anything = check_of(d=dict)
    refused(anything.check("work", {"d": {"deep": [number]}}), "sequencing.arguments_not_json")


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 2**63])
def test_the_largest_numbers_are_accepted(number: int) -> None:
    """Every integer of 64 bits is data."""
    for form in forms({"n": number}):
        assert ONE.check("work", form) == Accepted({"n": number}, {"n": number})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_passed_as_none(number: float) -> None:
    """NaN and infinities from a handler's own code are refused, never turned into null."""
    for arguments in ({"x": number}, {"x": None, "deep": {"a": [1.5, (number,)]}}):
        checked = check([Parameter("x", float | None, None), Parameter("deep", Any, None)])
        refusal = refused(checked.check("work", arguments), "sequencing.arguments_not_json")
        assert "NaN" in refusal.message
    assert isinstance(checked.check("work", {"x": None}), Accepted)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"n": object()}, id="object"),  # whose text is another in each process
        {"n": 1j},
        {"n": {None: 1}},
        {("a", 1): 1},
        {"n": "\ud800"},
        {"\ud800": 1},
    ],
    ids=str,
)
def test_what_is_not_data_is_refused(arguments: dict[str, Any]) -> None:
    """A handler's own batch is checked like a model's: what is not data is a refusal."""
    refused(ONE.check("work", arguments), "sequencing.arguments_not_json")


@pytest.mark.parametrize(
    "arguments", [None, 7, [1], b'{"n": 1}', pytest.param(object(), id="object")], ids=str
)
def test_whatever_stands_in_place_of_arguments_is_refused(arguments: Any) -> None:
    """Not even a wrong type in the proposal itself is raised."""
    refused(ONE.check("work", arguments), "sequencing.arguments_not_json")


def test_data_of_a_handler_is_written_as_a_model_would() -> None:
    """A handler may pass dates, sets and numbers of its own; they are checked as JSON."""
    checked = check_of(day=date, at=datetime, price=Decimal, tags=set[str])
    at = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
    given_ = {"day": at.date(), "at": at, "price": Decimal("1.10"), "tags": {"a"}}
    answer = checked.check("work", given_)
    assert isinstance(answer, Accepted)
    assert answer.passed == given_


def test_a_default_is_the_function_s_own() -> None:
    """What was not proposed is not passed, so that the function's default counts, of any type."""
    checked = check([Parameter("n", int, REQUIRED), Parameter("limit", int, 50)])
    assert checked.check("work", '{"n": 1}') == Accepted({"n": 1}, {"n": 1})
    assert checked.schema["properties"]["limit"]["default"] == 50


@pytest.mark.parametrize("annotation", [Callable[[int], int], object(), msgspec.Struct, Refused])
def test_a_type_without_a_schema_is_a_wrong_declaration(annotation: Any) -> None:
    """What a model could not fill in is an error where it is declared, naming tool and mend."""
    with pytest.raises(DeclarationError, match=r"tool 'work': an argument's type.*Use plain types"):
        check_of(n=annotation)
