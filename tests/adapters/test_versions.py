"""A library in a version that an adapter never met is refused where the adapter is imported."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import undercroft as uc
from undercroft.adapters.versions import require

FOUND = version("pytest")
MAJOR = int(FOUND.partition(".")[0])


def test_a_version_within_the_range_is_returned() -> None:
    """The oldest that was tried counts as within; the first that was not does not."""
    assert require("pytest", at_least=str(MAJOR), below=str(MAJOR + 1), extra="x") == FOUND
    assert require("pytest", at_least=FOUND, below=str(MAJOR + 1), extra="x") == FOUND


@pytest.mark.parametrize(
    ("at_least", "below"), [(str(MAJOR + 1), str(MAJOR + 2)), ("1", str(MAJOR)), ("1", FOUND)]
)
def test_one_that_is_too_old_or_too_new_is_refused(at_least: str, below: str) -> None:
    """With what is installed, what would do, and the command that installs it."""
    with pytest.raises(uc.DeclarationError) as caught:
        require("pytest", at_least=at_least, below=below, extra="langchain")
    said = str(caught.value)
    assert f"pytest {FOUND} is installed" in said
    assert f"knows {at_least} to below {below}" in said
    assert "pip install 'undercroft[langchain]'" in said


def test_one_that_is_missing_is_named() -> None:
    """Whoever forgot the extra is told which one."""
    with pytest.raises(uc.DeclarationError, match=r"no-such-thing is not installed.*\[mcp\]"):
        require("no-such-thing", at_least="1", below="2", extra="mcp")


@pytest.mark.parametrize(
    ("framework", "extra"),
    [
        ("frameworks.langchain", "langchain"),
        ("frameworks.pydantic_ai", "pydantic-ai"),
        ("frameworks.openai_agents", "openai-agents"),
        ("mcp", "mcp"),
    ],
)
def test_an_adapter_without_its_library_names_the_extra(framework: str, extra: str) -> None:
    """Where the library is missing, as here, importing the adapter says what to install."""
    with pytest.raises(uc.DeclarationError, match=rf"undercroft\[{extra}\]"):
        __import__(f"undercroft.adapters.{framework}", fromlist=["x"])


def test_adapters_refuse_what_their_extras_would_not_install() -> None:
    """The range that an adapter knows is the range of its extra in pyproject.toml."""
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = re.compile(
        r'^require\("(.+)", at_least="(.+)", below="(.+)", extra="(.+)"\)$', re.MULTILINE
    )
    found = [
        match.groups()
        for path in sorted((root / "src" / "undercroft" / "adapters").rglob("*.py"))
        for match in known.finditer(path.read_text(encoding="utf-8"))
    ]
    assert {extra for *_, extra in found} == {"langchain", "mcp", "openai-agents", "pydantic-ai"}
    for package, at_least, below, extra in found:
        assert f"{package}>={at_least},<{below}" in project["optional-dependencies"][extra]
