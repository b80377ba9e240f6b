"""What is looked for in a turn is found where it stands, and nowhere else."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.observability.search import Search, texts_of
from undercroft.model.event import (
    AnyEvent,
    StepEnded,
    StepStarted,
    TurnEnded,
    TurnStarted,
    encode_frame,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Failure, StepStatus

texts = st.text(st.characters(codec="utf-8"), max_size=12)
plain = st.recursive(
    texts | st.integers(-(2**40), 2**40) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def raw(value: Any) -> msgspec.Raw:
    """Return a body as events hold it."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


def frames(value: Any, service: str = "crm") -> list[bytes]:
    """Return a turn that was given something, gave it back, and told the user."""
    events: list[AnyEvent] = [
        TurnStarted("t-1", "handler", "app:x", b"", raw({"message": value}), None, 0.0),
        StepStarted(1, "look", "tool", 0.0, args=raw([value]), service=service),
        StepEnded(1, StepStatus.OK, 0.0, raw(value)),
        TurnEnded(TurnStatus.DONE, 1.0, raw(value)),
    ]
    return [encode_frame([event]) for event in events]


@given(value=plain, sought=texts | st.sampled_from(["a", "1", "ß", "É"]))
def test_a_turn_is_found_if_something_in_it_says_so(value: Any, sought: str) -> None:
    """In any case, in texts and numbers and names, however deep."""
    said = [text.lower() for text in texts_of({"message": value})]
    assert Search(sought).finds(frames(value)) == any(sought.lower() in text for text in said)


@given(value=plain)
def test_whatever_a_turn_says_finds_it(value: Any) -> None:
    """Also in large letters, as far as they have the same small ones."""
    for text in texts_of(value):
        assert Search(text).finds(frames(value))
        if text.upper().lower() == text.lower():
            assert Search(text.upper()).finds(frames(value))


def test_a_service_is_found_by_its_whole_name() -> None:
    """And together with a text only where both are."""
    turn = frames("gold", "crm")
    assert Search(service="crm").finds(turn)
    assert not Search(service="cr").finds(turn)
    assert not Search(service="CRM").finds(turn)
    assert Search("gold", "crm").finds(turn)
    assert not Search("silver", "crm").finds(turn)
    assert not Search("gold", "mail").finds(turn)


def test_an_error_is_found_by_its_text_and_its_type() -> None:
    """Whatever kind of step it was."""
    end = StepEnded(1, StepStatus.FAILED, 0.0, error=Failure("KeyError", "no such account"))
    assert Search("SUCH ACC").finds([encode_frame([end])])
    assert Search("keyerror").finds([encode_frame([end])])
    assert not Search("permanent").finds([encode_frame([end])])


def test_an_empty_turn_says_nothing() -> None:
    """No frames, no find."""
    assert not Search("a").finds([])
    assert not Search("").finds([])
