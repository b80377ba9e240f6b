"""A model for the pages of frameworks: it withdraws 30 and 50 at once, and says what came of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.snippets import run_page
from tests.provider import Answer, Call, Provider, Reply, Request


def model(request: Request) -> Reply:
    """Propose two withdrawals in one batch; then quote their results."""
    if not request.fresh:
        return Answer(calls=[Call("withdraw", {"account": "ada", "amount": n}) for n in (30, 50)])
    return Answer(text="; ".join(result.text for result in request.fresh))


def printed(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[str, str]:
    """Run the snippets of a page in `folder`; return what they print, and what the page says."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with Provider(model) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        promised = run_page(name)
    return capsys.readouterr().out.strip(), promised
