"""A value comes back as it was and as its annotation says; what is not data is an error."""

from __future__ import annotations

import enum
import math
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field

from undercroft.engine.codec import (
    ENCODE_ERRORS,
    convert,
    decode,
    decoder,
    describe_problem,
    encode,
)


class Colour(enum.Enum):
    """One of a few."""

    RED = "red"


class Level(enum.IntEnum):
    """A number of a few."""

    HIGH = 3


class AccountId(str):
    """Text with a type of its own."""

    __slots__ = ()


class Cents(int):
    """A number with a type of its own."""

    __slots__ = ()


class Row(TypedDict):
    """A typed dictionary."""

    id: int
    tags: list[str]


class Pair(NamedTuple):
    """A named tuple."""

    x: int
    y: str


class Struct(msgspec.Struct):
    """A msgspec struct."""

    id: int
    at: datetime | None = None


class Model(BaseModel):
    """A pydantic model."""

    id: Literal["a", "b"]
    price: Decimal = Decimal("1.10")
    parts: dict[int, str] = {}
    seen: set[int] = set()


class Other(BaseModel):
    """Another pydantic model."""

    name: str


@dataclass
class Account:
    """A dataclass of a user, with all sorts of fields."""

    id: UUID
    level: Level
    colour: Colour
    owner: Model
    rows: list[Row] = field(default_factory=list)
    extra: dict[int, Decimal] = field(default_factory=dict)
    pair: tuple[int, str] = (0, "")
    notes: Struct | None = None


ACCOUNT = Account(
    UUID(int=5),
    Level.HIGH,
    Colour.RED,
    Model(id="a", parts={7: "seven"}, seen={1, 2}),
    [Row(id=1, tags=["x"])],
    {3: Decimal("2.50")},
    (1, "one"),
    Struct(9, datetime(2024, 5, 6, tzinfo=UTC)),
)

TYPED: list[tuple[Any, Any]] = [
    (ACCOUNT, Account),
    ([ACCOUNT, ACCOUNT], list[Account]),
    ({"a": ACCOUNT}, dict[str, Account]),
    (ACCOUNT, Account | None),
    (None, Account | None),
    (Model(id="b"), Model),
    ([Model(id="a")], list[Model]),
    (Model(id="a"), Other | Model),
    (Other(name="x"), Model | Other | None),
    (Struct(1), Struct),
    (Row(id=1, tags=[]), Row),
    (Pair(1, "a"), Pair),
    (datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC), datetime),
    (datetime(2024, 5, 6, 7, 8, 9, 10), datetime),  # noqa: DTZ001  users have such, too
    (date(2024, 5, 6), date),
    (time(7, 8), time),
    (timedelta(days=1, microseconds=5), timedelta),
    (Decimal("1.10"), Decimal),
    (UUID(int=7), UUID),
    (Colour.RED, Colour),
    (Level.HIGH, Level),
    ({Colour.RED: 1}, dict[Colour, int]),
    ({1, 2}, set[int]),
    (frozenset({"a"}), frozenset[str]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    (b"\xff\x00", bytes),
    ({1: "a", -5: "b"}, dict[int, str]),
    (math.inf, float),
    (1, float),
    ("a", Literal["a", "b"]),
    (AccountId("a"), AccountId),
    (Cents(5), Cents),
    (OrderedDict(b=1, a=2), OrderedDict[str, int]),
    (Counter("aab"), Counter[str]),
    (2**64 - 1, int),
    (-(2**63), int),
    (True, bool),
    (None, None),
    ([[[]]], list[list[list[int]]]),
]


@pytest.mark.parametrize(("value", "annotation"), TYPED, ids=lambda part: repr(part)[:32])
def test_a_value_comes_back_with_its_type(value: Any, annotation: Any) -> None:
    """What a step returned is read back equal, and of the annotated type, from any frame."""
    raw = encode(value)
    for form in (raw, msgspec.Raw(raw)):
        back = decoder(annotation)(form)
        assert back == value
        assert type(back) is type(value) or annotation is float
        assert encode(back) == raw or annotation is float


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.binary(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
            | st.integers(-(2**63), 2**64 - 1),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(PLAIN)
def test_plain_data_comes_back_as_it_was(value: Any) -> None:
    """Data without an annotation keeps its types: bytes, integer keys and floats among them."""
    back = decode(encode(value))
    assert back == value
    assert encode(back) == encode(value)
    for annotation in (Any, object):
        assert decoder(annotation)(encode(value)) == value


@given(PLAIN)
def test_a_replay_sees_what_the_run_saw(value: Any) -> None:
    """Reading a value back once or twice makes no difference."""
    once = decode(encode(value))
    assert decode(encode(once)) == once


def test_what_is_no_number_survives() -> None:
    """NaN is data, at any depth."""
    back = decoder(dict[str, list[float]])(encode({"a": [math.nan]}))
    assert math.isnan(back["a"][0])


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (AccountId("a"), "a"),
        ([Cents(5)], [5]),
        ({"a": {AccountId("k"): Cents(1)}}, {"a": {"k": 1}}),
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (Colour.RED, "red"),
        (Pair(1, "a"), [1, "a"]),
    ],
    ids=repr,
)
def test_a_kind_of_plain_data_is_plain_data(value: Any, data: Any) -> None:
    """Subclasses of text, numbers and collections are recorded as what they are kinds of."""
    assert decode(encode(value)) == data


class Renamed(BaseModel):
    """A model that others know by other names."""

    account_id: str = Field(alias="accountId")


class Computed(BaseModel):
    """A model that says more than it is told."""

    model_config = ConfigDict(extra="forbid")
    price: int

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def gross(self) -> int:
        """The price with what comes on top."""
        return self.price * 2


class Exact(BaseModel):
    """A model that takes no text for a date."""

    model_config = ConfigDict(strict=True)
    day: date


@pytest.mark.parametrize(
    "value", [Renamed(accountId="a"), Computed(price=5), Exact(day=date(2024, 5, 6))], ids=repr
)
def test_a_model_comes_back_however_it_is_set_up(value: BaseModel) -> None:
    """A step that returned a model can be resumed, whatever the model's configuration."""
    assert decoder(type(value))(encode(value)) == value


class Measured(BaseModel):
    """A model with numbers that may be none."""

    x: float
    y: float | None = None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf], ids=str)
def test_a_model_keeps_what_is_no_number(number: float) -> None:
    """NaN and infinities in a model are data as they are anywhere else."""
    back = decoder(Measured)(encode(Measured(x=number, y=number)))
    assert repr(back) == repr(Measured(x=number, y=number))


class Masked(str):
    """Text that shows itself as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"


class Rounded(int):
    """A number that turns itself into another."""

    __slots__ = ()

    def __int__(self) -> int:
        return 0


@pytest.mark.parametrize(("value", "data"), [(Masked("a"), "a"), (Rounded(7), 7)])
def test_a_kind_of_plain_data_is_what_it_holds(value: Any, data: Any) -> None:
    """How a value shows itself does not change what is recorded of it."""
    assert decode(encode(value)) == data


class Nothing:
    """A class of which nobody knows how to write it down."""


@dataclass
class Holder:
    """Something that holds something else."""

    inside: Any


NOT_DATA: list[tuple[Any, str]] = [
    (Nothing(), "Nothing is not data"),
    (1j, "a complex is not data"),
    (range(3), "a range is not data"),
    (deque([1]), "a deque is not data"),
    (lambda: 1, "a function is not data"),
    (int, "a type is not data"),
    (ValueError("x"), "a ValueError is not data"),
    (PurePosixPath("x"), "a PurePosixPath is not data"),
    (iter(()), "a tuple_iterator is not data"),
    (2**64, "can't serialize ints"),
    (-(2**63) - 1, "can't serialize ints"),
    ("\ud800", "surrogates not allowed"),
]

PLACES: list[tuple[Any, str]] = [
    (lambda bad: [bad], "at [0]: "),
    (lambda bad: [1, (2, bad)], "at [1][1]: "),
    (lambda bad: {"a": bad}, "at ['a']: "),
    (lambda bad: {"a": [{"b": bad}]}, "at ['a'][0]['b']: "),
    (lambda bad: {7: bad}, "at [7]: "),
    (Holder, "at .inside: "),
    (lambda bad: [Holder({"k": [bad]})], "at [0].inside['k'][0]: "),
]


@pytest.mark.parametrize(("value", "problem"), NOT_DATA, ids=lambda part: str(part)[:24])
def test_what_is_not_data_is_an_error(value: Any, problem: str) -> None:
    """Nothing is pickled and nothing guessed: the error says what it was."""
    with pytest.raises(ENCODE_ERRORS) as caught:
        encode(value)
    assert problem in describe_problem(value, caught.value)


@pytest.mark.parametrize(
    ("place", "where"), PLACES, ids=lambda part: part if isinstance(part, str) else "in"
)
@pytest.mark.parametrize(("value", "problem"), NOT_DATA, ids=lambda part: str(part)[:24])
def test_an_error_says_where_in_a_value_it_is(
    place: Any, where: str, value: Any, problem: str
) -> None:
    """The path to what cannot be written is in the error, however deep it stands."""
    whole = place(value)
    with pytest.raises(ENCODE_ERRORS) as caught:
        encode(whole)
    said = describe_problem(whole, caught.value)
    assert said.startswith(where)
    assert problem in said


def test_what_holds_itself_is_an_error() -> None:
    """A value without an end is refused, and looking for the place has one."""
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(ENCODE_ERRORS) as caught:
        encode(ring)
    assert len(describe_problem(ring, caught.value)) < 300


@pytest.mark.parametrize(
    ("data", "annotation", "value"),
    [
        ({"id": 1, "tags": ["x"]}, Row, Row(id=1, tags=["x"])),
        ({"id": "a"}, Model, Model(id="a")),
        ("2024-05-06", date, date(2024, 5, 6)),
        ([1, "a"], tuple[int, str], (1, "a")),
        ("red", Colour, Colour.RED),
        ({"id": 5}, Struct, Struct(5)),
        (5, Any, 5),
    ],
)
def test_plain_data_can_be_read_as_an_annotation(data: Any, annotation: Any, value: Any) -> None:
    """What a person or a command line gives is read as the code expects it."""
    assert convert(data, annotation) == value


@pytest.mark.parametrize(
    ("data", "annotation"),
    [
        ("x", int),
        ({"id": "z"}, Model),
        ({"tags": []}, Row),
        ("green", Colour),
        ("yesterday", date),
        ([1], tuple[int, str]),
        (None, int),
        ({"id": "z"}, Model | Other | None),
    ],
    ids=str,
)
def test_data_that_does_not_fit_is_an_error(data: Any, annotation: Any) -> None:
    """What cannot be read as annotated is told and never passed on as it is."""
    with pytest.raises(ValueError, match=r"."):
        convert(data, annotation)


@pytest.mark.parametrize("annotation", [list[Any], dict[str, object], "text", object(), Nothing])
def test_an_annotation_that_says_nothing_does_no_harm(annotation: Any) -> None:
    """Where an annotation cannot be understood there is still a reader."""
    assert callable(decoder(annotation))
