"""Identifiers of one's own kind are kept like any other."""

from __future__ import annotations

from collections.abc import Iterable

import undercroft as uc
from undercroft.layers.context.identifiers.extract import Extractor, Identifier
from undercroft.testing import ScriptedModel

POLICY = uc.ContextPolicy(limit_tokens=700, reserved_tokens=100)
WORDS = "and so it goes on for a while. " * 12


def colours(text: str) -> Iterable[Identifier]:
    """Find words that nobody else would take for identifiers."""
    return [Identifier("mauve", "colour")] * text.count("mauve")


@uc.handler()
async def assist(turn: uc.Turn, message: str) -> str:
    """Answer once."""
    turn.context.user(message)
    return (await turn.model()).text


async def last_prompt(*extractors: Extractor) -> str:
    """Return what is sent once the first message has left the window."""
    model = ScriptedModel(["Noted."])
    async with uc.Runtime(model=model, context=POLICY, extractors=extractors) as rt:
        for text in (f"paint it mauve, {WORDS}", WORDS, WORDS, WORDS, "go on"):
            outcome = await rt.run(assist, session="s-1", message=text)
            assert outcome.status == "done", outcome.error
    return "\n".join(message.content for message in model.requests[-1].messages)


async def test_what_an_extractor_finds_is_in_the_ledger() -> None:
    """A value that only one's own function knows stands in the prompt when its message does not."""
    told = await last_prompt(colours)
    assert "paint it mauve" not in told
    assert "mauve" in told


async def test_without_it_the_value_is_gone() -> None:
    """Or the test above would say nothing."""
    assert "mauve" not in await last_prompt()
