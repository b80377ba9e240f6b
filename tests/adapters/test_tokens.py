"""Exact counts by vocabularies that ship with a library; what is wrong is said with its mend."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.adapters import tokens
from undercroft.adapters.tokens import VOCABULARIES, counter, counter_from, vocabulary_of
from undercroft.errors import ContextError, SettingError


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Forget what was loaded, before the test and after it."""
    loaded, bindings = tokens._loaded, tokens._bindings  # noqa: SLF001
    loaded.cache_clear()
    bindings.cache_clear()
    yield monkeypatch
    loaded.cache_clear()
    bindings.cache_clear()


# Counted by tiktoken.
KNOWN = [
    ("", 0, 0),
    ("hello world", 2, 2),
    ("antidisestablishmentarianism", 6, 6),
    ("2 + 2 = 4", 7, 7),
    ("お誕生日おめでとう", 8, 9),
    ("<|endoftext|>", 7, 7),
    (" " * 1000, 9, 9),
]


@pytest.mark.parametrize(("text", "o200k", "cl100k"), KNOWN)
def test_texts_count_as_by_tiktoken(text: str, o200k: int, cl100k: int) -> None:
    """Both vocabularies count as OpenAI's own tokenizer does."""
    assert counter("o200k_base").count(text) == o200k
    assert counter("cl100k_base").count(text) == cl100k


@pytest.mark.parametrize("name", VOCABULARIES)
def test_nothing_is_fetched(unloaded: pytest.MonkeyPatch, name: str) -> None:
    """A vocabulary is loaded and used without a network."""

    def refuse(*_args: object) -> None:
        pytest.fail("something was fetched")

    unloaded.setattr(socket.socket, "connect", refuse)
    exact = counter(name)
    assert exact.count("hello world") == 2
    assert (exact.name, exact.exact) == (name, True)
    assert counter(name) is exact


@pytest.mark.parametrize("name", VOCABULARIES)
def test_special_tokens_are_text(name: str) -> None:
    """Text that looks like a special token is counted as the text it is."""
    count = counter(name).count
    for text in ("<|endoftext|>", "<|im_start|>", "<|endofprompt|>", "<|fim_prefix|>"):
        assert count(text) > 1
        assert count(f"a{text}b") > 1


@given(st.text(st.characters(exclude_categories=[]), max_size=200))
@settings(max_examples=150)
def test_every_text_is_counted(text: str) -> None:
    """Lone surrogates are counted as what stands for them; never more tokens than bytes."""
    for name in VOCABULARIES:
        found = counter(name).count(text)
        assert bool(found) == bool(text)
        assert found <= len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("unit", ["a", " ", "\n", "=", "1", "你", "\ud800"])
def test_a_huge_text_is_counted(unit: str) -> None:
    """A text of more than a million characters is counted like any other."""
    assert counter("o200k_base").count(unit * 1_200_000) > 1000


@pytest.mark.parametrize(
    ("name", "vocabulary"),
    [
        ("gpt-4o", "o200k_base"),
        ("openai/gpt-4o-mini-2024-07-18", "o200k_base"),
        ("ft:gpt-4o:acme::id", "o200k_base"),
        ("GPT-4.1-nano", "o200k_base"),
        ("gpt-5-mini", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
        ("claude-sonnet-4", None),
        ("estimate", None),
        ("", None),
    ],
)
def test_a_model_means_its_vocabulary(name: str, vocabulary: str | None) -> None:
    """A model of OpenAI is counted by its own vocabulary; of others none is guessed."""
    assert vocabulary_of(name) == vocabulary
    if vocabulary:
        assert counter(name).name == vocabulary


def test_an_unknown_vocabulary_is_a_setting_to_mend() -> None:
    """A name that nobody knows is told, with those that are known."""
    with pytest.raises(SettingError, match=r"'nope'.*o200k_base.*cl100k_base.*estimate"):
        counter("nope")


def raising(error: BaseException) -> Any:
    """Return a function that raises."""

    def fail(*_args: object) -> Any:
        raise error

    return fail


class Panic(BaseException):
    """What a panic of Rust looks like from Python."""


@pytest.mark.parametrize(
    ("bindings", "problem"),
    [
        (SimpleNamespace(), "not one that Undercroft knows.*pip install -U"),
        (
            SimpleNamespace(tokenizer_for_encoding=raising(OSError("no data"))),
            r"cannot load it.*no data.*--force-reinstall",
        ),
        (
            SimpleNamespace(tokenizer_for_encoding=raising(Panic("bad dict"))),
            r"cannot load it.*bad dict.*--force-reinstall",
        ),
        (
            SimpleNamespace(tokenizer_for_encoding=lambda _: SimpleNamespace(count=len)),
            r"counts \d+ tokens where there are.*--force-reinstall",
        ),
        (
            SimpleNamespace(tokenizer_for_encoding=lambda _: SimpleNamespace(encode=list)),
            "not one that Undercroft knows.*pip install -U",
        ),
    ],
)
def test_a_broken_library_is_told_when_it_is_asked_for(
    unloaded: pytest.MonkeyPatch, bindings: Any, problem: str
) -> None:
    """A library that raises, panics, lacks what is called or counts wrongly fails at once."""
    unloaded.setattr(tokens, "_bindings", lambda: bindings)
    with pytest.raises(ContextError, match=f"(?s)'o200k_base'.*{problem}"):
        counter("o200k_base")


def test_a_library_that_is_not_installed_is_named_with_its_extra(
    unloaded: pytest.MonkeyPatch,
) -> None:
    """Without the library, the error says which extra brings it."""
    unloaded.setattr(tokens, "find_spec", lambda _: None)
    with pytest.raises(ContextError, match=r"not installed.*undercroft\[tokens\].*estimate"):
        counter("gpt-4o")


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_a_damaged_installation_is_told(
    unloaded: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    """A compiled module that is missing, empty or cut off is an error that says how to mend it."""
    (tmp_path / "bpe_openai").mkdir()
    (tmp_path / "bpe_openai" / "__init__.py").write_text("")
    compiled = tmp_path / "bpe_openai" / "_bindings.abi3.so"
    if damage != "missing":
        compiled.write_bytes(b"" if damage == "empty" else b"\x7fELF\x02\x01\x01" + bytes(500))
    unloaded.syspath_prepend(str(tmp_path))
    unloaded.delitem(sys.modules, "bpe_openai", raising=False)
    with pytest.raises(ContextError, match=r"bpe-openai.*pip install"):
        counter("cl100k_base")


def test_the_package_around_the_vocabularies_is_not_imported(
    unloaded: pytest.MonkeyPatch,
) -> None:
    """Counting does not pay for what the library's own package reads when it is imported."""
    unloaded.delitem(sys.modules, "bpe_openai", raising=False)
    counter("o200k_base")
    assert "bpe_openai" not in sys.modules


WORDS = ["[UNK]", "<eos>", "hello", "world", "is", "order", "#", "A1001", "on", "its", "way", "?"]


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """Return a small tokenizer file that cuts, pads and has a special token."""
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    pad: dict[str, Any] = {"strategy": {"Fixed": 16}, "direction": "Right", "pad_id": 0}
    pad |= {"pad_to_multiple_of": None, "pad_type_id": 0, "pad_token": "[UNK]"}
    special = {"id": 1, "content": "<eos>", "single_word": False, "lstrip": False}
    special |= {"rstrip": False, "normalized": False, "special": True}
    data: dict[str, Any] = {
        "version": "1.0",
        "truncation": cut,
        "padding": pad,
        "added_tokens": [special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: place for place, word in enumerate(WORDS)},
            "unk_token": "[UNK]",
        },
    }
    path = tmp_path / "small" / "tokenizer.json"
    path.parent.mkdir()
    path.write_text(json.dumps(data))
    return path


def test_a_tokenizer_file_counts(tokenizer_file: Path) -> None:
    """A file of the user counts whole texts: nothing is cut, padded, or taken for special."""
    pytest.importorskip("tokenizers")
    exact = counter_from(tokenizer_file)
    assert (exact.name, exact.exact) == ("small", True)
    assert exact.count("hello world hello world hello") == 5
    assert exact.count("hello <eos>") == 4
    assert exact.count("hello \ud800") == 2
    assert counter_from(str(tokenizer_file), "mine").name == "mine"


@pytest.mark.parametrize("content", ["", "{", "{}", '{"version": "1.0"}', "\x00\xff"])
def test_a_corrupt_tokenizer_file_is_told(tokenizer_file: Path, content: str) -> None:
    """A file that is no tokenizer is an error that names it and how to mend it."""
    pytest.importorskip("tokenizers")
    tokenizer_file.write_text(content)
    with pytest.raises(ContextError, match=r"(?s)tokenizer\.json.*cannot be read.*Fetch it again"):
        counter_from(tokenizer_file)


def test_a_truncated_tokenizer_file_is_told(tokenizer_file: Path) -> None:
    """Half of a file is no tokenizer."""
    pytest.importorskip("tokenizers")
    whole = tokenizer_file.read_text()
    tokenizer_file.write_text(whole[: len(whole) // 2])
    with pytest.raises(ContextError, match="cannot be read as a tokenizer"):
        counter_from(tokenizer_file)


def test_a_missing_tokenizer_file_is_told(tmp_path: Path) -> None:
    """A file that is not there is named, before any library is asked for."""
    with pytest.raises(ContextError, match=r"gone\.json.*no such file"):
        counter_from(tmp_path / "gone.json")
    with pytest.raises(ContextError, match="no such file"):
        counter_from(tmp_path)


@pytest.mark.parametrize("library", [None, ModuleType("tokenizers")])
def test_a_missing_library_of_files_is_named(
    monkeypatch: pytest.MonkeyPatch, tokenizer_file: Path, library: ModuleType | None
) -> None:
    """Without `tokenizers`, or with another of that name, the error says what to install."""
    monkeypatch.setitem(sys.modules, "tokenizers", library)
    with pytest.raises(ContextError, match="pip install -U tokenizers"):
        counter_from(tokenizer_file)
