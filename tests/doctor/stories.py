"""What happened in a run: who said what, which calls were made together, what came of them, when.

Writers turn a `Story` into what the exporters of each format give; see `writers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

START_S = 1_750_000_000.0
MODEL = "gpt-5"


@dataclass(frozen=True)
class Call:
    """A call of a tool, and what came of it.

    Attributes:
        result: What it gave back; None where no result was ever recorded.
        error: Words of its failure; empty where it went well.
        took_s: How long it took.
        lag_s: After the batch was proposed, when it began.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    result: Any = "ok"
    error: str = ""
    took_s: float = 0.2
    lag_s: float | None = None

    @property
    def text(self) -> str | None:
        """What the model reads as its result."""
        if self.error:
            return f"Error: {self.error}"
        if self.result is None or isinstance(self.result, str):
            return self.result
        return json.dumps(self.result)


@dataclass(frozen=True)
class User:
    """Something that the user says."""

    text: str


@dataclass(frozen=True)
class Batch:
    """An answer that proposes calls, which are then made."""

    calls: tuple[Call, ...]
    text: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer for the user."""

    text: str


Event = User | Batch | Reply


@dataclass(frozen=True)
class Story:
    """A run.

    Attributes:
        system: What the model is told first.
        answer_s: Seconds that each answer of the model takes.
    """

    events: tuple[Event, ...]
    system: str = "You are the agent of a shop. Follow its policy."
    answer_s: float = 1.0
    name: str = "run-1"


def story(*events: Event | str | Call | Sequence[Call]) -> Story:
    """Return a run: texts are by turns the user's and replies, calls are batches."""
    made: list[Event] = []
    users = True
    for event in events:
        if isinstance(event, str):
            made.append(User(event) if users else Reply(event))
            users = not users
        elif isinstance(event, Call):
            made.append(Batch((event,)))
        elif isinstance(event, User | Batch | Reply):
            made.append(event)
            users = not isinstance(event, User)
        else:
            made.append(Batch(tuple(event)))
    return Story(tuple(made))


# ---------------------------------------------------------------------------- what happened when


@dataclass(frozen=True)
class Ran:
    """A call as it ran."""

    id: str
    call: Call
    began: float
    ended: float


@dataclass(frozen=True)
class Asked:
    """A request to the model.

    Attributes:
        prompt: Messages of OpenAI's form that it was sent.
        answer: The message that it gave back.
        ran: Calls of that, as they ran.
    """

    n: int
    prompt: tuple[dict[str, Any], ...]
    answer: dict[str, Any]
    began: float
    ended: float
    ran: tuple[Ran, ...] = ()

    @property
    def tokens(self) -> tuple[int, int]:
        """Of the prompt and of the answer, roughly."""
        return len(json.dumps(self.prompt)) // 4, len(json.dumps(self.answer)) // 4


def asked(told: Story) -> Iterator[Asked]:
    """Yield what the model was asked, in order."""
    prompt: list[dict[str, Any]] = [{"role": "system", "content": told.system}]
    at, n, ids = START_S, 0, 0
    for event in told.events:
        if isinstance(event, User):
            prompt.append({"role": "user", "content": event.text})
            at += 1.0
            continue
        ended = at + told.answer_s
        answer: dict[str, Any] = {"role": "assistant", "content": event.text}
        ran: list[Ran] = []
        if isinstance(event, Batch):
            began = ended
            for call in event.calls:
                ids += 1
                lag = 0.01 if call.lag_s is None else call.lag_s
                began = began + lag if call.lag_s is None else ended + lag
                ran.append(Ran(f"call_{ids}", call, began, began + call.took_s))
                began = ran[-1].ended if call.lag_s is None else began
            answer["content"] = event.text or None
            answer["tool_calls"] = [_wanted(one) for one in ran]
        yield Asked(n, tuple(prompt), answer, at, ended, tuple(ran))
        n += 1
        prompt.append(answer)
        prompt += [result_of(one) for one in ran if one.call.text is not None]
        at = max([ended, *(one.ended for one in ran)]) + 0.05


def _wanted(one: Ran) -> dict[str, Any]:
    arguments = json.dumps(one.call.arguments)
    return {
        "id": one.id,
        "type": "function",
        "function": {"name": one.call.name, "arguments": arguments},
    }


def result_of(one: Ran) -> dict[str, Any]:
    """Return the message that tells the model what came of a call."""
    return {"role": "tool", "tool_call_id": one.id, "content": one.call.text}


def iso(at: float) -> str:
    """Return a time as exporters write it."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def last_word(told: Story) -> str | None:
    """Return the answer with which a run ends; None where it does not."""
    last = told.events[-1] if told.events else None
    return last.text if isinstance(last, Reply) else None


def first_word(told: Story) -> str:
    """Return what the user said first."""
    return next((event.text for event in told.events if isinstance(event, User)), "")
