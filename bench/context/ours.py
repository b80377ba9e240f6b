"""Undercroft in the same place: `uc.Context`, as one would use it without a runtime.

All is as it is by default: the estimate counts tokens, not the judge's vocabulary. With a
summariser, it is asked before each prompt whether it is time; without one, nobody is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import undercroft as uc
from bench.context.ideal import Ideal
from bench.context.peers import Peer
from bench.context.scored import Prompt, Wanted, handles_in
from bench.context.sessions import Session

LIMIT_TOKENS, RESERVED_TOKENS = 8_192, 1_024
POLICY = uc.ContextPolicy(limit_tokens=LIMIT_TOKENS, reserved_tokens=RESERVED_TOKENS)


def ideal(session: Session, wanted: Wanted, _: int) -> list[Prompt]:
    """Return the prompts that the ideal summariser leads to."""
    summariser = Ideal(wanted)

    async def summarise(messages: Sequence[Any]) -> str:
        return summariser.answer(messages[-1]["content"])

    return asyncio.run(driven(uc.Context(POLICY, summarise=summarise), session))


def alone(session: Session, _: Wanted, __: int) -> list[Prompt]:
    """Return the prompts that come about without any model."""
    return asyncio.run(driven(uc.Context(POLICY), session))


async def driven(context: uc.Context, session: Session) -> list[Prompt]:
    """Tell a window all that was said; return what it would send before each answer."""
    prompts = []
    for one in session.messages:
        if one["role"] == "assistant":
            await context.compact()
            messages = context.openai()
            behind = [context.recall(handle) for handle in handles_in(messages)]
            prompts.append(Prompt(messages, behind))
        context.add(one)
    return prompts


OURS = (Peer("undercroft, ideal summariser", ideal), Peer("undercroft, none", alone))
