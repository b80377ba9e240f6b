"""What the documentation shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def blocks(page: Path, language: str) -> str:
    """Return all blocks of a page in one language, in order, at their lines of the page."""
    text = page.read_text(encoding="utf-8")
    lines: list[str] = []
    for match in BLOCK.finditer(text):
        if match[1] == language:
            lines += [""] * (text.count("\n", 0, match.start(2)) - len(lines))
            lines += match[2].splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_snippets_of_a_page_run(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The Python of a page, from top to bottom, runs; what it prints is what the page says."""
    code = blocks(page, "python")
    assert code, "a page without a snippet needs no test"
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec", dont_inherit=True), {"__name__": "snippet"})  # noqa: S102  our own page
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    said = "".join(text for language, text in found if language == "text").strip()
    if said:
        assert capsys.readouterr().out.strip() == said


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *sorted((ROOT / "docs" / "frameworks").glob("*.md")),
        ROOT / "ARCHITECTURE.md",
        ROOT / "AGENTS.md",
    ],
    ids=lambda page: page.name,
)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file or folder of the repository."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), link
