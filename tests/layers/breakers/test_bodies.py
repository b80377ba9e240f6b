"""Bodies in which providers say that a call failed are read; others are left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.breakers.bodies import (
    SIZE_MAX_BYTES,
    ErrorBody,
    failed_body,
    read_body,
    whole_shape,
)

OPENAI = {"message": "No.", "type": "server_error", "param": None, "code": None}
ANTHROPIC = {"type": "error", "error": {"type": "api_error", "message": "No."}}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"error": OPENAI}, ("server_error",)),
        (OPENAI, ("server_error",)),
        (ANTHROPIC, ("api_error",)),
        (json.dumps(ANTHROPIC), ("api_error",)),
        (json.dumps(ANTHROPIC).encode(), ("api_error",)),
        ([{"error": OPENAI}], ("server_error",)),
        ({"error": {"code": "B", "type": "A", "details": {"error_code": "C"}}}, ("c", "b", "a")),
        ({"error": {"code": "same", "type": "SAME"}}, ("same",)),
        ({"Error": {"Code": "Throttling"}}, ("throttling",)),
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, ("resource_exhausted",)),
        ({"error": "no"}, ()),
        ({"error": {"type": ["x"], "code": {}}}, ()),
        (None, ()),
        ("not json", ()),
        (b"\xff", ()),
        ("[" * 20_000, ()),
        ([], ()),
        (7, ()),
    ],
)
def test_the_words_of_a_body_are_found(raw: Any, words: tuple[str, ...]) -> None:
    """Whole or from the inside, as data or as text: the most telling word comes first."""
    assert read_body(raw).words == words


def test_a_body_is_read_so_far() -> None:
    """Work is bounded: huge text is not parsed, long words and messages are cut."""
    assert read_body(json.dumps({"error": OPENAI, "x": "x" * SIZE_MAX_BYTES})) == ErrorBody()
    body = read_body({"error": {"message": "m" * 10**6, "type": "t" * 10**6}})
    assert len(body.message) == 2_000
    assert len(body.words[0]) == 100


@pytest.mark.parametrize("code", [502, 400, 599])
def test_a_number_may_be_a_status(code: int) -> None:
    """Compatible services put the HTTP status into the body."""
    assert read_body({"error": {"message": "m", "code": code}}).status == code


@pytest.mark.parametrize("code", [200, 0, -32601, 600, True, 502.0, "502"])
def test_other_numbers_are_none(code: Any) -> None:
    """A code is not taken for a status that it is not."""
    assert read_body({"error": {"message": "m", "code": code}}).status is None


FAILED: list[Any] = [
    {"error": OPENAI},
    {"error": OPENAI, "request_id": "r"},
    ANTHROPIC,
    {**ANTHROPIC, "request_id": "r"},
    {"error": {"message": "Bad gateway", "code": 502}, "user_id": "u"},
    {"object": "response", "id": "r", "status": "failed", "output": [],
     "error": {"code": "server_error", "message": "No."}},
    {"type": "error", "code": "server_error", "message": "No.", "sequence_number": 3},
]  # fmt: skip


@pytest.mark.parametrize("value", FAILED)
def test_an_error_in_place_of_an_answer_is_seen(value: Any) -> None:
    """The documented shapes of OpenAI and Anthropic, and those of the many that follow them."""
    body = failed_body(value)
    assert body is not None
    assert body.message
    assert body.words or body.status


@pytest.mark.parametrize("value", FAILED)
@pytest.mark.parametrize("part", ["error", "message", "code"])
def test_a_body_that_lacks_a_part_is_an_answer(value: dict[str, Any], part: str) -> None:
    """What does not hold all of a shape is what the tool meant to say."""
    less = {k: v for k, v in value.items() if k != part}
    if "error" in less and part == "message":
        less["error"] = {k: v for k, v in less["error"].items() if k != part}
    if less == value or (part == "code" and "error" in less):
        return
    assert failed_body(less) is None


@pytest.mark.parametrize("value", FAILED)
def test_a_body_that_holds_more_is_an_answer(value: dict[str, Any]) -> None:
    """An error beside data is a part of the data."""
    if "object" in value or "sequence_number" in value:
        return
    assert failed_body({**value, "data": [1]}) is None
    assert failed_body([value]) is None
    assert failed_body(json.dumps(value)) is None


def test_a_whole_shape_can_only_be_a_provider_s() -> None:
    """A word that is not known counts only where nobody else writes like that."""
    assert whole_shape({"error": OPENAI})
    assert whole_shape(ANTHROPIC)
    assert not whole_shape({"error": {"message": "m", "type": "t"}})
    assert not whole_shape({"error": {"message": "m", "code": "c"}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "type", "code", "message", "details", "object"]), inner
        )
    ),
)


@given(JSON)
def test_reading_never_fails(value: Any) -> None:
    """Whatever a service answers can be looked at."""
    body = read_body(value)
    assert all(isinstance(word, str) for word in body.words)
    failed = failed_body(value)
    if failed is not None:
        assert isinstance(value, dict)
        assert failed.words or failed.status or "object" in value
