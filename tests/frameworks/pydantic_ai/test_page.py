"""The page of pydantic-ai: what it shows is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.paged import printed


def test_the_snippets_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Python of the page, from top to bottom, prints what the page says."""
    said, promised = printed("pydantic-ai", tmp_path, monkeypatch, capsys)
    assert said == promised
