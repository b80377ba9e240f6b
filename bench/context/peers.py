"""What others make of a long session: LangChain and LiteLLM, each as its own documentation has it.

Nothing leaves the machine: no tracing, no list of models is fetched, and the ideal summariser
stands in for a model. A peer that is not installed is left out.

- `SummarizationMiddleware` keeps a list of messages and is asked before every prompt, as the agent
  would ask it. The system message is not in that list: the agent puts it before, and by default
  nobody counts it. A trigger at 80 % of what a prompt may have is that of its docstring; what it
  keeps (20 messages), its counter, and the 4,000 tokens that it shows its model are its defaults.
  "In its favour": an exact counter, the system message taken off what it may fill, 30 % kept, as
  its docstring has it too, and its model shown everything.
- `trim_messages` of LangChain is given the whole history before every prompt, with the options
  that its documentation recommends; with its approximate counter, and with an exact one.
- `trim_messages` of LiteLLM is given the same; it counts exactly itself.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from bench.context.counting import prompt_tokens
from bench.context.ideal import Ideal
from bench.context.scored import Prompt, Wanted
from bench.context.sessions import Session

TRIGGER_SHARE, KEEP_SHARE = 0.8, 0.3
MODEL = "gpt-4o"  # of whose vocabulary LiteLLM brings a copy

Make = Callable[[Session, Wanted, int], list[Prompt]]


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to make prompts.

    Attributes:
        name: For the table.
        make: Makes the prompts of a session, that fit into so many tokens.
    """

    name: str
    make: Make


def offline() -> None:
    """Keep the peers from asking for anything over the network."""
    os.environ["LANGSMITH_TRACING"] = "false"
    os.environ["LANGCHAIN_TRACING_V2"] = "false"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"  # reads no .env file


def installed() -> tuple[list[Peer], list[str]]:
    """Return what can be measured, and the names of what is not installed."""
    offline()
    there: list[Peer] = []
    missing: list[str] = []
    for name, peers in (("langchain", _langchain), ("litellm", _litellm)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                there += peers()
        except ImportError:
            missing.append(name)
    return there, missing


def _langchain() -> list[Peer]:
    middleware = importlib.import_module("langchain.agents.middleware")
    models = importlib.import_module("langchain_core.language_models.fake_chat_models")
    library = importlib.import_module("langchain_core.messages")
    kit = Kit(middleware.SummarizationMiddleware, models.GenericFakeChatModel, library)
    name = f"LangChain {version('langchain')}"
    return [
        Peer(f"{name}, SummarizationMiddleware", kit.summarised),
        Peer(f"{name}, the same, in its favour", kit.summarised_kindly),
        Peer(f"{name}, trim_messages, approximate", kit.trimmed),
        Peer(f"{name}, trim_messages, exact", kit.trimmed_exactly),
    ]


@dataclass(frozen=True, slots=True)
class Kit:
    """LangChain, as far as it is used.

    Attributes:
        middleware: `SummarizationMiddleware`.
        model: A chat model that never says anything; the middleware asks it who it is.
        library: `langchain_core.messages`.
    """

    middleware: Any
    model: Any
    library: Any

    def summarised(self, session: Session, wanted: Wanted, budget_tokens: int) -> list[Prompt]:
        """Summarise with the defaults, by a part of what a prompt may have."""
        middleware = self.middleware(
            self._silent(budget_tokens),
            trigger=("fraction", TRIGGER_SHARE),
            summarizer=self._summariser(Ideal(wanted)),
        )
        return self._driven(middleware, session)

    def summarised_kindly(
        self, session: Session, wanted: Wanted, budget_tokens: int
    ) -> list[Prompt]:
        """Summarise with every choice made in its favour."""
        room = budget_tokens - prompt_tokens(session.messages[:1])
        model = self._silent(room)
        middleware = self.middleware(
            model,
            trigger=("fraction", TRIGGER_SHARE),
            keep=("fraction", KEEP_SHARE),
            token_counter=self._exact,
            trim_tokens_to_summarize=None,
            summarizer=self._summariser(Ideal(wanted)),
        )
        return self._driven(middleware, session)

    def trimmed(self, session: Session, wanted: Wanted, budget_tokens: int) -> list[Prompt]:
        """Trim by the approximate counter."""
        return self._trimmed(session, wanted, budget_tokens, "approximate")

    def trimmed_exactly(self, session: Session, wanted: Wanted, budget_tokens: int) -> list[Prompt]:
        """Trim by an exact counter."""
        return self._trimmed(session, wanted, budget_tokens, self._exact)

    def _trimmed(
        self, session: Session, _: Wanted, budget_tokens: int, counter: Any
    ) -> list[Prompt]:
        messages = self.library.convert_to_messages(list(session.messages))
        return [
            self._prompt(
                self.library.trim_messages(
                    messages[:at],
                    max_tokens=budget_tokens,
                    token_counter=counter,
                    strategy="last",
                    start_on="human",
                    include_system=True,
                    allow_partial=False,
                )
            )
            for at in session.answers
        ]

    def _driven(self, middleware: Any, session: Session) -> list[Prompt]:
        system, *messages = self.library.convert_to_messages(list(session.messages))
        state: list[Any] = []
        prompts = []
        for one in messages:
            if one.type == "ai":
                changed = middleware.before_model({"messages": state}, None)
                if changed is not None:
                    # The first of them removes all that was there.
                    state = list(changed["messages"][1:])
                prompts.append(self._prompt([system, *state]))
            state.append(one)
        return prompts

    def _prompt(self, messages: Sequence[Any]) -> Prompt:
        return Prompt(self.library.convert_to_openai_messages(list(messages)))

    def _exact(self, messages: Sequence[Any]) -> int:
        return prompt_tokens(self.library.convert_to_openai_messages(list(messages)))

    def _silent(self, tokens_max: int) -> Any:
        return self.model(messages=iter(()), profile={"max_input_tokens": tokens_max})

    def _summariser(self, ideal: Ideal) -> Callable[[list[Any]], str]:
        def summarise(messages: list[Any]) -> str:
            # As the middleware itself writes them into its prompt.
            return ideal.prose(self.library.get_buffer_string(messages, format="xml"))

        return summarise


def _litellm() -> list[Peer]:
    with _quiet():
        library = importlib.import_module("litellm.utils")
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)

    def trimmed(session: Session, _: Wanted, budget_tokens: int) -> list[Prompt]:
        prompts = []
        with _quiet():
            for at in session.answers:
                history = list(session.messages[:at])
                kept = library.trim_messages(history, MODEL, max_tokens=budget_tokens)
                prompts.append(Prompt(kept))
        return prompts

    return [Peer(f"LiteLLM {version('litellm')}, trim_messages", trimmed)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
