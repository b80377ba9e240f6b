"""Which format a file is in: every format is told from every other, and it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.doctor import writers
from tests.doctor.writers import Call, Story, story
from undercroft.doctor.guess import FITS_MIN, guess, seen
from undercroft.doctor.importers import FORMATS
from undercroft.doctor.importers.form import Format
from undercroft.doctor.source import Guess, read_cases
from undercroft.model.case import Case

TOLD = story(
    "Cancel order #A1001.",
    Call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "status": "pending"}),
    Call("cancel_order", {"order_id": "#A1001"}, error="the shop is closed"),
    "I could not cancel it.",
)
WRITERS: tuple[tuple[Callable[[Story], list[Any]], str], ...] = (
    (writers.openai_chat, "openai-chat"),
    (writers.anthropic_chat, "anthropic-chat"),
    (writers.langfuse, "langfuse"),
    (writers.langsmith, "langsmith"),
    (writers.agents, "openai-agents"),
    (writers.otlp_new, "otlp"),
    (writers.otlp_old, "otlp"),
    (writers.otlp_openinference, "otlp"),
)


@pytest.mark.parametrize(("write", "name"), WRITERS, ids=lambda one: getattr(one, "__name__", one))
def test_every_format_is_told_from_every_other(
    write: Callable[[Story], list[Any]], name: str, tmp_path: Path
) -> None:
    """What one system writes is read as that, surely, in lines and in a list alike."""
    documents = write(TOLD)
    path = tmp_path / "file"
    runs: list[Case] = []
    for text in (json.dumps(documents), "\n".join(map(json.dumps, documents))):
        path.write_text(text)
        found, case = read_cases(path)
        assert isinstance(found, Guess)
        assert isinstance(case, Case)
        assert (found.format, found.word, found.told) == (name, "sure", False)
        assert [call.name for call in case.calls] == ["get_order", "cancel_order"]
        runs.append(case)
    assert runs[0] == runs[1]


def test_names_of_formats_are_their_own() -> None:
    """No two formats have the same name, and each says for people what it is."""
    assert len({form.name for form in FORMATS}) == len(FORMATS)
    assert len({form.title for form in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_nothing_fits_what_is_no_trace(form: Format) -> None:
    """Data that is no trace is not taken for one, by any format."""
    for document in (None, 1, "", "a note", [], {}, [1, 2], {"foo": 1}, {"name": "Ada", "age": 3}):
        assert form.fits(document) < FITS_MIN, document


def test_who_speaks_is_told_from_several_messages() -> None:
    """Messages that might be a chat's each are agents' together, if several have names."""
    said = [
        {"role": "user", "name": name, "content": "x"}
        for name in ("Coder", "Judge", "Coder", "Cook")
    ]
    found = guess(said, FORMATS)
    assert found is not None
    assert found[0].name == "plain"


def test_a_header_among_others_is_no_doubt() -> None:
    """One document that fits nothing makes a guess a little less sure, and no other."""
    documents = writers.openai_chat(TOLD) * 9
    clean, headed = guess(documents, FORMATS), guess([{"version": 1}, *documents], FORMATS)
    assert clean is not None
    assert headed is not None
    assert clean[0] is headed[0]
    assert 0.8 < headed[1].sure < clean[1].sure
    assert replace(headed[1], sure=0.6).word == "likely"


def test_what_was_seen_is_said_in_few_words() -> None:
    """However large or odd a document is, what it is takes a line."""
    for document in (
        {"k" * 10_000: 1},
        dict.fromkeys(map(str, range(99)), 1),
        [[1]],
        "x\n" * 9_999,
    ):
        assert 0 < len(seen([document])) < 400
        assert "\n" not in seen([document])
