"""How a ledger reads: any number of its first values, none twice, each in one line."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.layers.context.identifiers.listing import PARTS, Line, Listing, listing

WORDS = st.sampled_from(["Ada", "ada", "Ada Byron", "#A1001", "12 Elm St.", "Elm", "a\nb", " ", ""])
LINES = st.lists(
    st.builds(
        Line,
        st.integers(0, len(PARTS) - 1),
        st.sampled_from(["", "id", "name"]),
        st.lists(WORDS, min_size=1, max_size=3).map(" ".join),
    ),
    max_size=12,
)


@settings(max_examples=100)
@given(LINES, st.integers(0, 12))
def test_the_first_of_a_listing_read_like_a_listing_of_them(lines: list[Line], first: int) -> None:
    """A value that is left out for a longer one is there where the longer one is not."""
    first = min(first, len(lines))
    assert Listing(lines).text(first) == listing(lines[:first])


def test_a_value_stands_once() -> None:
    """What stands whole within a longer value is not said again; within a word it is."""
    lines = [Line(1, "", value) for value in ("Ada", "Elm", "Ada Byron", "12 Elmwood Road")]
    assert listing(lines).splitlines()[1:] == ["Said by user: Elm; Ada Byron; 12 Elmwood Road"]


def test_a_blank_value_takes_no_room() -> None:
    """A value of blanks or of signs that cannot be seen is left out, and is no error."""
    lines = [Line(1, "", value) for value in (" ", "\u200b", "#A1001")]
    assert listing(lines).splitlines()[1:] == ["Said by user: #A1001"]
