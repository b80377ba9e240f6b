"""What does not fit is said where a model is made, in words that mend it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import undercroft as uc
from tests.models.talking import FLAVOURS, KEY
from undercroft.adapters.models import AnthropicModel, OpenAIModel
from undercroft.adapters.models.sdk import RANGES
from undercroft.errors import DeclarationError, SettingError
from undercroft.layers.breakers.evidence import kind_of
from undercroft.ports import WireClient

ROOT = Path(__file__).parents[2]
OPENAI = openai.AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:9")
ANTHROPIC = anthropic.AsyncAnthropic(api_key=KEY, base_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("kind", "client", "wanted"),
    [
        (OpenAIModel, openai.OpenAI(api_key=KEY), "AsyncOpenAI"),
        (AnthropicModel, anthropic.Anthropic(api_key=KEY), "AsyncAnthropic"),
        (OpenAIModel, ANTHROPIC, "AsyncOpenAI"),
        (AnthropicModel, OPENAI, "AsyncAnthropic"),
        (OpenAIModel, object(), "AsyncOpenAI"),
        (OpenAIModel, "gpt", "AsyncOpenAI"),
    ],
)
def test_a_client_that_is_not_async_or_of_another_is_refused(
    kind: Any, client: Any, wanted: str
) -> None:
    """The error names the class to give, and never the key."""
    with pytest.raises(DeclarationError, match=wanted) as raised:
        kind(client, "m-1")
    assert KEY not in str(raised.value)


def test_a_client_of_azure_is_one_of_openai_s() -> None:
    """What is derived from a client will do."""
    azure = openai.AsyncAzureOpenAI(
        api_key=KEY, azure_endpoint="http://127.0.0.1:9", api_version="2024-10-21"
    )
    model = OpenAIModel(azure, "gpt-4o", provider="azure")
    assert (model.service, model.provider) == ("azure/gpt-4o", "azure")
    assert isinstance(model, WireClient)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"messages": []}, "messages"),
        ({"tools": []}, "tools"),
        ({"n": 2}, "n"),
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"response_format": uc.Call}, "response_format"),
        ({"api": "assistants"}, "api"),
    ],
)
def test_what_a_request_says_is_no_setting(settings: dict[str, Any], name: str) -> None:
    """The conversation is the window's to say; a setting is plain data."""
    with pytest.raises(SettingError) as raised:
        OpenAIModel(OPENAI, "m-1", **settings)
    assert raised.value.name == name


@pytest.mark.parametrize("most", [0, -1, 1.5, None, True])
def test_anthropic_is_always_told_how_much_an_answer_may_have(most: Any) -> None:
    """The API refuses a request that does not say."""
    with pytest.raises(SettingError, match="output_tokens_max"):
        AnthropicModel(ANTHROPIC, "m-1", output_tokens_max=most)


def test_the_library_s_retries_are_off_and_the_client_given_is_left_alone() -> None:
    """Whoever uses the client beside us keeps what they set."""
    model = OpenAIModel(OPENAI, "m-1")
    assert model._client.max_retries == 0  # noqa: SLF001  nobody else can see it
    assert OPENAI.max_retries == 2
    assert model._client.timeout == OPENAI.timeout  # noqa: SLF001  likewise


def test_the_package_imports_no_client_library() -> None:
    """Whoever does not use one needs none."""
    code = (
        "import sys\nimport undercroft.adapters.models\nimport undercroft.queries\n"
        "assert not {'openai', 'anthropic', 'httpx', 'httpx2'} & set(sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=env)


@pytest.mark.parametrize("found", ["2.9", "99.0", ""])
@pytest.mark.parametrize("name", sorted(RANGES))
def test_a_version_that_was_not_tried_is_refused(name: str, found: str, tmp_path: Path) -> None:
    """Too old, too new and absent: the error names the extra, where the model is made."""
    found = "1.99" if found == "2.9" else found
    info = tmp_path / f"{name}-{found or '1'}.dist-info"
    info.mkdir()
    if found:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {found}\n")
    path = f"[{str(tmp_path)!r}]" if found else "[]"
    code = (
        "import importlib.metadata as m, sys\n"
        "from undercroft.adapters.models import AnthropicModel, OpenAIModel\n"
        f"kind = {'OpenAIModel' if name == 'openai' else 'AnthropicModel'}\n"
        f"sys.path = {path}\n"
        "try:\n    kind(object(), 'm-1')\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=60,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("DeclarationError"), done.stdout + done.stderr
    assert f"undercroft[{name}]" in done.stdout
    assert (found or "not installed") in done.stdout


def test_the_extras_say_the_versions_that_were_tried() -> None:
    """The range of an extra is the one that is checked."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name, (least, below) in RANGES.items():
        assert f'{name} = ["{name}>={least},<{below}"]' in text


@pytest.mark.parametrize("library", [openai, anthropic])
def test_every_error_of_a_library_is_in_the_table(library: Any) -> None:
    """A new kind of error is one that somebody has looked at."""
    kinds = [
        kind
        for kind in list(vars(library).values())
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        # What tells of a request that was made to us, and not by us, is no error of a call.
        if "Webhook" not in kind.__name__:
            assert kind_of(kind) is not None, kind


async def test_a_model_says_what_it_is() -> None:
    """Name, provider and service are there for prices, budgets and breakers."""
    for flavour in FLAVOURS:
        async with flavour.model("http://127.0.0.1:9", "m-2", service="mine") as model:
            provider = "anthropic" if flavour.anthropic else "openai"
            assert (model.name, model.provider, model.service) == ("m-2", provider, "mine")
            assert "m-2" in repr(model)
