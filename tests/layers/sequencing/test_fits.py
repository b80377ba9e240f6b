"""Only what is certainly wrong is called wrong along an edge of a workflow."""

from __future__ import annotations

import enum
import typing
from collections import OrderedDict, defaultdict
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
)

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from undercroft.layers.sequencing.fits import fits, item_type, spelled

T = TypeVar("T")


class Animal:
    """A class of a user."""


class Dog(Animal):
    """A class below it."""


class Row(TypedDict):
    """A typed dictionary."""

    name: str


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: int


class Colour(enum.StrEnum):
    """Text of a few kinds."""

    RED = "red"


class Named(Protocol):
    """Something with a name."""

    name: str


class Model(BaseModel):
    """A pydantic model."""


class Struct(msgspec.Struct):
    """A msgspec struct."""


@dataclass
class Box(Generic[T]):
    """A generic class of a user."""

    inside: T


class Backwards(Mapping[T, str], Generic[T]):
    """A mapping whose only parameter is its key."""


UserId = NewType("UserId", str)

FIT: list[tuple[Any, Any]] = [
    (int, float),
    (bool, int),
    (int, complex),
    (Dog, Animal),
    (datetime, date),
    (Colour, str),
    (Point, tuple),
    (str, str | None),
    (None, Optional[str]),  # noqa: UP045  as somebody else may write it
    (str, Union[int, str]),  # noqa: UP007
    (int | str, str | int | None),
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a", 1], str | int),
    (Literal["a", "b"], Literal["a"] | Literal["b", "c"]),  # noqa: PYI030  as two aliases may
    (str, Literal["a"]),
    (Annotated[int, "a note"], int),
    (int, Annotated[float, "a note"]),
    (list[Annotated[int, "a note"]], list[int]),
    (list[int], Sequence[int]),
    (list[bool], list[int]),
    (list[int], list),
    (list, list[int]),
    (list[int], list[Any]),
    (list[Any], list[int]),
    (list[int], Iterable[int]),
    (list[int], Collection[float]),
    (typing.List[int], list[int]),  # noqa: UP006  as somebody else may write it
    (typing.Dict[str, int], Mapping[str, int]),  # noqa: UP006
    (dict[str, int], Mapping[str, float]),
    (OrderedDict[str, int], dict[str, int]),
    (defaultdict[str, int], Mapping[str, int]),
    (tuple[int, str], tuple[int, str]),
    (tuple[int, int], tuple[int, ...]),
    (tuple[int, ...], Sequence[int]),
    (Backwards[int], Mapping[int, str]),
    (dict, Row),
    (dict[str, str], Row),
    (Row, dict[str, Any]),
    (Row, Mapping[str, Any]),
    (int, Any),
    (Any, int),
    (int, object),
    (int, T),
    (Dog, Named),
    (UserId, int),
    (str, UserId),
    (Box[int], Box[int]),
    (Box[int], Box),
    (Callable[[int], str], Callable[..., Any]),
    (int, "a text that nobody resolved"),
]

WRONG: list[tuple[Any, Any]] = [
    (str, int),
    (int, str),
    (float, int),
    (int, bool),
    (int, bytes),
    (str, bytes),
    (int, None),
    (None, int),
    (str | None, str),
    (int | str, int),
    (str, int | None),
    (str, date),
    (int, Decimal),
    (Animal, str),
    (Model, Struct),
    (dict[str, Any], Model),
    (Model, dict[str, Any]),
    (Literal["a"], int),
    (Literal["a", "c"], Literal["a", "b"]),
    (Literal["a", 1], str),
    (list[str], list[int]),
    (list[int | None], list[int]),
    (list[list[str]], list[list[int]]),
    (list[int], int),
    (int, list[int]),
    (list[int], set[int]),
    (list[int], tuple[int, ...]),
    (list[int], dict[str, int]),
    (dict[str, int], dict[int, int]),
    (dict[str, int], Mapping[str, str]),
    (dict[str, int], Sequence[str]),
    (tuple[int, str], tuple[str, str]),
    (Annotated[str, "a note"], int),
    (str, Mapping[str, str]),
]


@pytest.mark.parametrize(("given_", "asked"), FIT, ids=str)
def test_what_fits_passes(given_: Any, asked: Any) -> None:
    """What a type checker would accept passes, and so does what nobody can decide."""
    assert fits(given_, asked)


@pytest.mark.parametrize(("given_", "asked"), WRONG, ids=str)
def test_what_is_certainly_wrong_does_not(given_: Any, asked: Any) -> None:
    """What can only go wrong at run time is said before."""
    assert not fits(given_, asked)


PLAIN = st.sampled_from(
    [
        *(int, float, bool, str, bytes, None, date, Decimal, Animal, Dog, Colour, Model, Struct),
        *(Row, Point, UserId, Literal["a", "b"], Literal[1]),
    ]
)
UNKNOWN = st.sampled_from([Any, object, T, Annotated[Any, "a note"]])


def made(origin: Any, *parts: Any) -> Any:
    """Return an annotation of several, such as a list of one."""
    return origin[parts if len(parts) > 1 else parts[0]]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return annotations made of others."""
    return st.one_of(
        st.builds(made, st.sampled_from([list, set, Sequence, Optional]), inner),
        st.builds(made, st.just(tuple), inner, st.just(...)),
        st.builds(made, st.just(Annotated), inner, st.just("a note")),
        st.builds(made, st.sampled_from([dict, tuple, Union]), inner, inner),
    )


ANNOTATIONS = st.recursive(PLAIN, nested, max_leaves=5)


@given(ANNOTATIONS)
def test_every_type_fits_itself(annotation: Any) -> None:
    """A step may always take exactly what another returns, also where it may be None."""
    assert fits(annotation, annotation)
    assert fits(annotation, Optional[annotation])  # noqa: UP045


@given(ANNOTATIONS, UNKNOWN)
def test_what_is_unknown_passes(annotation: Any, unknown: Any) -> None:
    """Where one of the two says nothing, nothing can be wrong, also inside of a list."""
    assert fits(annotation, unknown)
    assert fits(unknown, annotation)
    assert fits(list[annotation], list[unknown])
    assert fits(list[unknown], list[annotation])


@given(ANNOTATIONS, ANNOTATIONS, ANNOTATIONS)
def test_a_union_takes_what_one_part_takes(asked: Any, other: Any, annotation: Any) -> None:
    """Asking for more kinds never refuses more; giving more kinds never passes more."""
    if fits(annotation, asked):
        assert fits(annotation, Union[asked, other])  # noqa: UP007
    if not fits(annotation, asked):
        assert not fits(Union[annotation, other], asked)  # noqa: UP007


@pytest.mark.parametrize(
    ("collection", "item"),
    [
        (list[int], int),
        (list, Any),
        (Any, Any),
        (object, Any),
        (tuple[int, ...], int),
        (tuple[int, str], int | str),
        (tuple, Any),
        (set[str], str),
        (frozenset[str], str),
        (Sequence[Animal], Animal),
        (Iterable[int], int),
        (Iterator[int], int),
        (Generator[int, None, None], int),
        (Annotated[list[int], "a note"], int),
        (list[int] | None, int),
        (Optional[typing.List[int]], int),  # noqa: UP006, UP045
        (list[int] | set[str], int | str),
        (UserId, Any),
        (str, None),
        (bytes, None),
        (Colour, None),
        (int, None),
        (type(None), None),
        (dict[str, int], None),
        (Row, None),
        (Struct | None, None),
        (list[int] | str, None),
    ],
    ids=str,
)
def test_what_a_fan_out_gets(collection: Any, item: Any) -> None:
    """The item of a collection is known from its annotation; text and mappings have none."""
    assert item_type(collection) == item


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (type(None), "None"),
        (list[int], "list[int]"),
        (Any, "Any"),
        (int | None, "int | None"),
        (Literal["a"], "Literal['a']"),
        (Animal, "Animal"),
    ],
    ids=str,
)
def test_an_annotation_is_spelled_as_its_author_would(annotation: Any, text: str) -> None:
    """Errors show types as they stand in the code."""
    assert spelled(annotation) == text
