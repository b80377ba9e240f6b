"""A call that may not run becomes a refusal that tells a model how to go on."""

from __future__ import annotations

import msgspec
import pytest

from undercroft.layers.sequencing.guard import (
    batch_too_large,
    rejected,
    unknown_tool,
    unusable_key,
)
from undercroft.model.step import Refusal


@pytest.mark.parametrize(
    ("refusal", "rule", "message", "mend"),
    [
        (
            unknown_tool("get_acount", ["get_account", "send"]),
            "sequencing.unknown_tool",
            "There is no tool 'get_acount'.",
            "Did you mean 'get_account'?",
        ),
        (
            unknown_tool("weather", ["send", "get"]),
            "sequencing.unknown_tool",
            "There is no tool 'weather'.",
            "Choose one of: get, send.",
        ),
        (
            unknown_tool("weather", []),
            "sequencing.unknown_tool",
            "There is no tool 'weather'.",
            "Choose one of: none.",
        ),
        (
            rejected("send", "ada", "not on a Friday"),
            "sequencing.rejected",
            "ada rejected send: not on a Friday.",
            "Do not propose the same again",
        ),
        (
            rejected("send", "ada", ""),
            "sequencing.rejected",
            "ada rejected send.",
            "Do not propose the same again",
        ),
        (
            unusable_key("get", "{id} is ''"),
            "sequencing.unusable_key",
            "The arguments of get name no resource: {id} is ''.",
            "Propose get again",
        ),
        (
            batch_too_large("get", 4_097, 4_096),
            "sequencing.batch_too_large",
            "get was call number 4,097 or later of one batch; 4,096 may run.",
            "Propose fewer calls",
        ),
    ],
)
def test_a_refusal_says_the_rule_the_fact_and_the_mend(
    refusal: Refusal, rule: str, message: str, mend: str
) -> None:
    """Each refusal names its rule, what happened, and the next move; it is plain data."""
    assert refusal.rule == rule
    assert refusal.message == message
    assert mend in refusal.next
    assert str(refusal) == f"{refusal.message} {refusal.next}"
    assert msgspec.json.decode(msgspec.json.encode(refusal), type=Refusal) == refusal


def test_a_made_up_name_does_not_fill_the_window() -> None:
    """The name of a tool that does not exist is repeated only in part."""
    refusal = unknown_tool("x" * 100_000, ["get"])
    assert len(str(refusal)) < 300
