"""The page of MCP: what it shows is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.snippets import run_page


def test_the_snippets_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Python of the page, from top to bottom, prints what the page says."""
    monkeypatch.chdir(tmp_path)
    promised = run_page("mcp")
    assert capsys.readouterr().out.strip() == promised
