"""Recorded sessions, gone through with windows of ours: with room, without, and without a ledger.

Nothing is simulated here but the agent, who answers as recorded: what leaves a window leaves it by
compaction. The ledger is what keeps identifiers; taken away, together with the way back, a window
loses what a plain one would. A miss is a call given a fact (`scored.py` finds it) that stands in
no message of the prompt before it.
"""

from __future__ import annotations

import asyncio

import undercroft as uc
from bench.context.dropping import Heard, Played
from bench.context.scored import has, text_of

_NO_LEDGER = (uc.ContextShare(section="ledger", priority=5, max_share=0.001),)
POLICIES = {
    "with room": uc.ContextPolicy(limit_tokens=1_000_000),
    "8 k": uc.ContextPolicy(limit_tokens=8_192, reserved_tokens=1_024),
    "8 k, no ledger": uc.ContextPolicy(
        limit_tokens=8_192, reserved_tokens=1_024, shares=_NO_LEDGER, recall=False
    ),
    "4.5 k, no ledger": uc.ContextPolicy(
        limit_tokens=4_608, reserved_tokens=256, shares=_NO_LEDGER, recall=False
    ),
}


def windowed(heard: Heard, policy: uc.ContextPolicy) -> Played:
    """Go through a session in a window."""
    return asyncio.run(_windowed(heard, policy))


async def _windowed(heard: Heard, policy: uc.ContextPolicy) -> Played:
    context = uc.Context(policy)
    played = Played()
    last = None
    for at, one in enumerate(heard.session.messages):
        if one["role"] == "assistant":
            await context.compact()
            prompt = [text_of(message) for message in context.openai()]
            alarm = context.alarm
            if alarm is not None and alarm is not last:
                played.alarms.append(at)
            last = alarm
            played.scores.append((at, context.quality))
            facts = heard.wanted.used.get(at, ())
            if any(not any(has(text, fact) for text in prompt) for fact in facts):
                played.misses.append(at)
        context.add(one)
    return played
