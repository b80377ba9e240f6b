"""The pinned names are those of the conventions."""

from __future__ import annotations

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, exception_attributes

from undercroft.model import genai

PUBLISHED = frozenset(
    value
    for module in (gen_ai_attributes, gen_ai_metrics, error_attributes, exception_attributes)
    for value in vars(module).values()
    if isinstance(value, str)
)
# What only the repository of their own has since, or what was never published.
UNPUBLISHED = frozenset(
    {
        "gen_ai.thread.id",
        "gen_ai.request.tools",
        "gen_ai.request.context_window",
        "gen_ai.tool.arguments",
        "gen_ai.tool.result",
    }
)
NAMES = {name: value for name, value in vars(genai).items() if name.isupper()}
ATTRIBUTES = sorted(
    {
        one
        for value in NAMES.values()
        for one in ((value,) if isinstance(value, str) else value)
        if isinstance(one, str) and one.startswith(("gen_ai.", "error."))
    }
    - UNPUBLISHED
)


@pytest.mark.parametrize("name", [n for n in ATTRIBUTES if not n.endswith(".message")])
def test_each_name_is_published(name: str) -> None:
    """Every attribute and metric that is written or read is one of the conventions', or was."""
    events = {genai.CHOICE_EVENT, genai.PROMPT_EVENT, genai.COMPLETION_EVENT, genai.DETAILS_EVENT}
    assert name in PUBLISHED | events


def test_our_own_names_are_told_apart() -> None:
    """What we write beside the conventions is under our own name, each name once."""
    written = [v for n, v in NAMES.items() if isinstance(v, str) and v.startswith("undercroft.")]
    assert len(set(written)) == len(written)
    assert len(genai.DURATION_BOUNDS) == len(genai.TOKEN_BOUNDS) == 14
    assert genai.TOKEN_BOUNDS[-1] == 67_108_864
    assert genai.DURATION_BOUNDS[-1] == pytest.approx(81.92)
