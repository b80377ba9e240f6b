"""Arguments of calls, from whatever way a record writes them down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doctor.anything import json_values
from undercroft.doctor.arguments import RAW_CHARS_MAX, read_arguments

_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_objects = st.dictionaries(st.text(max_size=5), _plain, max_size=4)


@given(_objects)
def test_objects_are_read_in_every_spelling(wanted: dict[str, Any]) -> None:
    """An object, its JSON, the JSON of that, and its Python literal are the same arguments."""
    for raw in (wanted, json.dumps(wanted), json.dumps(json.dumps(wanted)), repr(wanted)):
        assert read_arguments(raw) == (wanted, "")


@given(json_values | st.text(max_size=50) | st.binary(max_size=20))
def test_anything_is_read_or_kept(raw: Any) -> None:
    """Whatever was recorded is an object, or is kept as bounded text; nothing is an exception."""
    found, kept = read_arguments(raw)
    assert (found is None) == bool(kept)
    assert len(kept) <= RAW_CHARS_MAX


@pytest.mark.parametrize("raw", [None, "", "  ", "{}", {}])
def test_nothing_given_is_no_arguments(raw: Any) -> None:
    """A call without parameters has arguments, and they are empty."""
    assert read_arguments(raw) == ({}, "")


@pytest.mark.parametrize(
    "raw",
    ["[" * 100_000, "{'a':" * 5_000, "'" * 99_999, "(" * 60 + ")" * 60, "{" * 2_000_000, "1e999"],
)
def test_hostile_arguments_are_kept_as_text(raw: str) -> None:
    """What would break a parser is kept as text, cut off."""
    found, kept = read_arguments(raw)
    assert found is None
    assert 0 < len(kept) <= RAW_CHARS_MAX


def test_python_literals_become_json() -> None:
    """Tuples and sets become lists, keys become text."""
    assert read_arguments("{'a': (1, 2), 3: {'x'}}") == ({"a": [1, 2], "3": ["x"]}, "")
