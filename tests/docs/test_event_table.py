"""Every event of the journal is in the documentation, with every field."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tests.docs.event_table import PAGE, described, rows, with_table
from undercroft.model.event import AnyEvent


def test_the_table_of_events_is_what_the_code_says() -> None:
    """A new event or field is in the page; make it so with `python -m tests.docs.event_table`."""
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text) == text
    for kind in get_args(AnyEvent):
        assert f"`{kind.__struct_config__.tag}` {kind.__name__}" in text
        for field in kind.__struct_fields__:
            assert f"| `{field}` |" in text


@pytest.mark.parametrize("kind", get_args(AnyEvent), ids=lambda kind: str(kind.__name__))
def test_what_an_event_says_of_its_fields_it_has(kind: Any) -> None:
    """A docstring names no field that was renamed or dropped, and each field is explained."""
    assert set(described(kind)) <= set(kind.__struct_fields__)
    assert all(len(text) > 2 for _, text in rows(kind))
