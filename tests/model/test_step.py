"""An error as data: its kind and its text, bounded and readable whatever it was."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.model.outcome import TurnStatus
from undercroft.model.step import (
    MESSAGE_CHARS_MAX,
    ErrorClass,
    Failure,
    Phase,
    failure,
    step_id,
)


@given(st.text(max_size=50) | st.text(alphabet="ab\ud800é", min_size=1_990, max_size=2_100))
def test_the_text_of_a_failure_is_bounded_and_can_be_written(text: str) -> None:
    """Any text of an error becomes text that a journal can hold, cut where it is too long."""
    lost = failure(ValueError(text), ErrorClass.TRANSIENT, "get")
    assert (lost.type, lost.error_class, lost.step) == ("ValueError", ErrorClass.TRANSIENT, "get")
    readable = text.encode("utf-8", "backslashreplace").decode()
    assert lost.message[:MESSAGE_CHARS_MAX] == readable[:MESSAGE_CHARS_MAX]
    if len(readable) <= MESSAGE_CHARS_MAX:
        assert lost.message == readable
    else:
        assert lost.message.endswith(f"… ({len(readable):,} characters)")
    assert len(lost.message) < MESSAGE_CHARS_MAX + 40
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(lost), type=Failure) == lost


def test_an_enormous_text_is_cut() -> None:
    """An error that quotes megabytes does not fill the journal."""
    assert len(failure(ValueError("x" * 5_000_000)).message) < 2_040


class Mute(Exception):  # noqa: N818  named for what it does
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


class Endless(Exception):  # noqa: N818  named for what it does
    """An error whose text never ends."""

    def __str__(self) -> str:
        return str(self)


class NoText(Exception):  # noqa: N818  named for what it does
    """An error whose text is none."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # noqa: PLE0307  it is what users may do


@pytest.mark.parametrize("error", [Mute(), Endless(), NoText()])
def test_an_error_without_a_text_is_still_an_error(error: Exception) -> None:
    """A broken `__str__` hides neither the error nor its kind."""
    lost = failure(error)
    assert lost.type == type(error).__name__
    assert lost.message == "(this error has no readable text)"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "KeyError: 'k'"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ExceptionGroup("many", [ValueError()]), "ExceptionGroup: many (1 sub-exception)"),
    ],
)
def test_a_failure_reads_like_an_error(error: BaseException, text: str) -> None:
    """A failure is shown as its error would be."""
    assert str(failure(error)) == text


def test_phases_are_in_order() -> None:
    """The seven phases of a turn follow each other as they are listed."""
    assert [phase.order for phase in Phase] == list(range(7))
    assert [phase.value for phase in Phase] == [
        *("resolve", "read", "gather", "prepare", "approve", "execute", "confirm")
    ]


def test_what_is_final_is_over() -> None:
    """Only an ended turn is final; one that waits or was stopped may go on."""
    assert {status for status in TurnStatus if status.final} == {
        TurnStatus.DONE,
        TurnStatus.DEGRADED,
        TurnStatus.FAILED,
    }


def test_a_step_is_known_by_its_name_and_number() -> None:
    """The id of a step says what it is and where in its turn."""
    assert step_id("get", 7) == "get.7"
