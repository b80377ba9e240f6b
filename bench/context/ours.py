"""Undercroft in the same place: `uc.Context`, as one would use it without a runtime.

All is as it is by default: an estimate counts tokens, not the judge's vocabulary, and after each
answer it hears what the provider would say of the prompt's size. "Exactly" is with OpenAI's
vocabulary, from the extra `tokens`; "unheard" with the estimate alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import undercroft as uc
from bench.context.counting import VOCABULARY, prompt_tokens
from bench.context.ideal import Ideal
from bench.context.peers import Peer
from bench.context.scored import Prompt, Wanted, handles_in
from bench.context.sessions import Chat, Session
from undercroft.adapters import tokens

LIMIT_TOKENS, RESERVED_TOKENS = 8_192, 1_024
POLICY = uc.ContextPolicy(limit_tokens=LIMIT_TOKENS, reserved_tokens=RESERVED_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """One way to use it.

    Attributes:
        ideal: Whether the ideal summariser writes summaries; else nobody does.
        exact: Whether tokens are counted by the vocabulary.
        heard: Whether it is told what the provider counted.
    """

    ideal: bool = False
    exact: bool = False
    heard: bool = True

    def make(self, session: Session, wanted: Wanted, _: int) -> list[Prompt]:
        """Return the prompts of a session."""
        summariser = Ideal(wanted)

        async def summarise(messages: Sequence[Any]) -> str:
            return summariser.answer(messages[-1]["content"])

        context = uc.Context(
            POLICY,
            counter=tokens.counter(VOCABULARY) if self.exact else None,
            summarise=summarise if self.ideal else None,
        )
        return asyncio.run(self._driven(context, session))

    async def _driven(self, context: uc.Context, session: Session) -> list[Prompt]:
        prompts = []
        for one in session.messages:
            if one["role"] == "assistant":
                await context.compact()
                messages = context.openai()
                prompts.append(Prompt(messages, recalled(context, messages)))
                if self.heard:
                    context.heard({"prompt_tokens": prompt_tokens(messages)})
            context.add(one)
        return prompts


def recalled(context: uc.Context, messages: Sequence[Chat]) -> list[str]:
    """Return what the model could fetch back by the handles that it is shown."""
    texts = []
    for handle in handles_in(messages):
        with contextlib.suppress(uc.ContextError):  # it has expired
            texts.append(context.recall(handle))
    return texts


IDEAL, NONE = "undercroft, ideal summariser", "undercroft, none"
OURS = (
    Peer(IDEAL, Ours(ideal=True).make),
    Peer(NONE, Ours().make),
    Peer(f"{IDEAL}, exactly", Ours(ideal=True, exact=True).make),
    Peer(f"{NONE}, exactly", Ours(exact=True).make),
    Peer(f"{NONE}, unheard", Ours(heard=False).make),
)
