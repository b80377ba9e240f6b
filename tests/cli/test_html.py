"""`show --html`: one file that opens from disk and needs nothing else."""

from __future__ import annotations

import re

from tests.cli.conftest import Face
from tests.pages.test_html import read
from undercroft.layers.observability.answers import QUESTIONS


def test_a_turn_is_written_as_one_page(face: Face) -> None:
    """With its six answers, its timeline, its prompts, and nothing from anywhere else."""
    words = ("--input", '{"message": "<script>alert(1)</script>"}', "--model", "app.py:model")
    face.use("run", "app.py:assist", *words)
    result = face.use("show", "last", "--html", "turn.html")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Wrote turn.html" in result.stderr
    document = (face.folder / "turn.html").read_text(encoding="utf-8")
    assert "<script" not in document
    assert not re.search(r"https?://|@import|url\((?!#)", document)
    found = read(document)
    whole = "".join(found.said)
    assert all(question in whole for question in QUESTIONS)
    assert "<script>alert(1)</script>" in whole
    assert "checked against the fingerprint of what was sent" in whole
    assert "2 tools on offer" in whole
    assert "refused" in whole
    assert [name for name, _ in found.elements].count("svg") == 2


def test_a_page_that_cannot_be_written_is_said(face: Face, waiting: str) -> None:
    """It is exit code 2 and one message."""
    result = face.use("show", waiting, "--html", "no/such/folder/turn.html")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "it cannot be written" in " ".join(result.stderr.split())


def test_every_kind_of_turn_has_a_page(face: Face, waiting: str, doubted: str) -> None:
    """Also one that waits, that is in doubt, that failed, or has very many steps."""
    face.use("run", "app.py:wrong", "--input", '{"name": "x"}')
    face.use("run", "app.py:many", "--input", '{"count": 90}')
    for head in face.json("turns"):
        face.use("show", head["turn_id"], "--html", "turn.html")
        said = "".join(read((face.folder / "turn.html").read_text(encoding="utf-8")).said)
        assert head["turn_id"] in said
        assert str(head["status"]).replace("_", " ") in said
    assert {waiting, doubted} <= {head["turn_id"] for head in face.json("turns")}
