"""What users tell of their tools is taken whole, or refused with the place and the mend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.doctor import told as told_module
from undercroft.doctor.told import MODES, read_told, told_of
from undercroft.errors import DeclarationError


def test_the_example_of_the_docstring_is_read() -> None:
    """What the documentation shows works."""
    text = re.sub(r"(?m)^    ", "", (told_module.__doc__ or "").split("\n\n", 2)[2])
    told = told_of(text[: text.index("`reads = true`")])
    assert told.pins == ("Refunds above 500 EUR need a manager.",)
    assert told.resources == {"customer": "account"}
    cancel = told.of("cancel_order")
    assert cancel is not None
    assert (cancel.needs, cancel.consent) == (("get_order",), True)
    assert [(mode, template and template.text) for mode, template in cancel.claims] == [
        ("write", "order/{order_id}")
    ]


def test_a_name_goes_before_a_pattern() -> None:
    """A tool told by its own name is not told by a pattern that fits it too."""
    told = told_of('[tools."get_*"]\nreads = true\n[tools.get_rid]\nwrites = ["a/{b}", "c"]\n')
    own, other = told.of("get_rid"), told.of("get_order")
    assert own is not None
    assert other is not None
    assert [mode for mode, _ in own.claims] == ["write", "write"]
    assert other.claims == (("read", None),)
    assert told.of("cancel") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tools", "is no TOML"),
        ("tool = 1", "does not know the key 'tool'"),
        ("[tools.a]\nwrite = 'x'", "does not know the key 'write'"),
        ("[tools.a]\nwrites = '{x}-{y}'", "more than one parameter"),
        ("[tools.a]\nwrites = 1", "is no list of texts"),
        ("[tools.a]\nneeds = 'b'", "is no list of texts"),
        ("[tools.a]\nconsent = 'yes'", "is 'yes'"),
        ("[tools.a]\nneither = true\nreads = true", "touches something and neither"),
        ("tools = 1", "is no table"),
        ("[resources]\na = 'b/c'", "is no name of a kind"),
        ("pins = [1]", "is no list of texts"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    """Nothing is ignored: the error names the file, what is wrong and how to mend it."""
    with pytest.raises(DeclarationError, match=re.escape(said)) as caught:
        told_of(text, "my.toml")
    assert caught.value.place.startswith("my.toml")
    assert caught.value.mend.endswith(".")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, other bytes than text, and one that is far too large."""
    binary, large = tmp_path / "a.toml", tmp_path / "b.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    large.write_text("# " + "x" * told_module.SIZE_BYTES_MAX)
    for path in (tmp_path / "none.toml", tmp_path, binary, large):
        with pytest.raises(DeclarationError):
            read_told(path)
    good = tmp_path / "c.toml"
    good.write_text("[tools.think]\nneither = true\n")
    told = read_told(good).of("think")
    assert told is not None
    assert told.neither


@settings(max_examples=60)
@given(text=st.text(st.characters(), max_size=80), word=st.sampled_from([*MODES, "needs", "pins"]))
def test_any_text_is_read_or_refused(text: str, word: str) -> None:
    """Whatever stands in the file, what comes of it is what was told or one kind of error."""
    for whole in (text, f"[tools.a]\n{word} = {text!r}", f'{word} = ["""{text}"""]'):
        try:
            told_of(whole)
        except DeclarationError as error:
            assert error.mend  # noqa: PT017  either outcome is right
