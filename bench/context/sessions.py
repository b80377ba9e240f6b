"""Long sessions out of recorded conversations: several of one domain, stitched together.

Read in place from `../shared/data/traces`: nothing of it is copied. Taken is what can be sent to
a chat API as it is, that is, conversations with a system message and an id for every call. Left
out are agents that execute code instead (their logs have neither) and runs that crashed.

Keeps: the same files give the same sessions; an id of a call is there once in a session; a
session has one system message, and no two conversations about the same task.
"""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRACES = Path("../shared/data/traces")
# Both retail logs are of one domain: the same system text, and partly the same tasks.
DOMAINS = {"airline": ("tau_airline",), "retail": ("tau_retail", "agentrx_tau_retail")}
# Whoever simulated the user ended a conversation with it; no user says so.
STOP = "###STOP###"
TOKENS_MAX = 27_000
# A session is done when it has so many; they are gone through again and again.
AIMS = (17_000, 19_000, 21_000, 23_000)
# What of a message is sent; the rest are notes of whoever recorded it.
SENT = ("role", "content", "tool_calls", "tool_call_id", "name")

# A message in OpenAI's form.
Chat = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One recorded conversation.

    Attributes:
        name: As it is called where it was recorded.
        group: Its task; others with the same one are about the same things.
        messages: Without the marker that ended it.
    """

    name: str
    group: str
    messages: tuple[Chat, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """Several conversations, one after the other.

    Attributes:
        messages: One system message, then all that was said.
        groups: The tasks that it is about.
        tokens: Of all messages, counted exactly.
    """

    name: str
    domain: str
    messages: tuple[Chat, ...]
    groups: tuple[str, ...]
    tokens: int

    @property
    def answers(self) -> list[int]:
        """Places of the assistant's messages: a prompt is all that is before one of them."""
        return [at for at, one in enumerate(self.messages) if one["role"] == "assistant"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What could be read, and how many conversations could not be used.

    Attributes:
        coded: Left out: their agents execute code, so that calls have no ids.
        crashed: Left out: they have no messages.
        rest: Left out: what remained was too short for another session.
    """

    sessions: list[Session]
    coded: int
    crashed: int
    rest: int


def load(
    count: Callable[[Iterable[Chat]], int], traces: Path = TRACES, domains: Iterable[str] = DOMAINS
) -> Taken:
    """Read and stitch.

    Args:
        count: Tokens of messages.
        traces: The folder that holds one folder for each source.
        domains: Of `DOMAINS`.

    Raises:
        FileNotFoundError: There are no traces at that place.
    """
    sessions: list[Session] = []
    coded = crashed = rest = 0
    for domain in domains:
        usable: list[Conversation] = []
        for folder in DOMAINS[domain]:
            for row in rows_of(traces / folder / "traces.jsonl.gz"):
                if not row.get("messages"):
                    crashed += 1
                elif not sendable(row["messages"]):
                    coded += 1
                else:
                    usable.append(conversation_of(row))
        made, left = stitch(domain, usable, count)
        sessions += made
        rest += left
    return Taken(sessions, coded, crashed, rest)


def stitch(
    domain: str, usable: list[Conversation], count: Callable[[Iterable[Chat]], int]
) -> tuple[list[Session], int]:
    """Make sessions of conversations; return them and how many conversations are left over."""
    # Trials of a task follow each other by name; by trial first, tasks alternate.
    waiting = sorted(usable, key=lambda one: (one.name.rpartition("/")[2], one.name))
    sessions: list[Session] = []
    while waiting:
        aim = AIMS[len(sessions) % len(AIMS)]
        system = waiting[0].messages[0]
        chosen: list[Conversation] = []
        tokens = count([system])
        for one in waiting:
            more = count(one.messages[1:])
            if one.group in {other.group for other in chosen} or tokens + more > TOKENS_MAX:
                continue
            chosen.append(one)
            tokens += more
            if tokens >= aim:
                break
        if tokens < AIMS[0]:
            return sessions, len(waiting)
        waiting = [one for one in waiting if one not in chosen]
        messages = (system, *_joined(chosen))
        name = f"{domain}-{len(sessions) + 1:02d}"
        groups = tuple(one.group for one in chosen)
        sessions.append(Session(name, domain, messages, groups, count(messages)))
    return sessions, 0


def arguments_of(call: Chat) -> Any:
    """Return the arguments of a call as data; their text where that is no JSON."""
    text = call["function"]["arguments"]
    try:
        return json.loads(text)
    except ValueError:
        return text


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Return the recorded conversations of a file, one after the other."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def sendable(messages: list[Chat]) -> bool:
    """Whether every call has an id, as a provider wants it."""
    calls = [call for one in messages for call in one.get("tool_calls") or ()]
    return messages[0]["role"] == "system" and all(call.get("id") for call in calls)


def conversation_of(row: dict[str, Any]) -> Conversation:
    """Return one recorded conversation as it would be sent."""
    messages = []
    for recorded in row["messages"]:
        one = {field: recorded[field] for field in SENT if recorded.get(field) is not None}
        said = recorded.get("content")
        if recorded["role"] == "user":
            said = said.replace(STOP, "").rstrip()
            if not said:
                continue
        one["content"] = said
        if "tool_calls" in one:
            one["tool_calls"] = [_as_json(call) for call in one["tool_calls"]]
        messages.append(one)
    return Conversation(row["trace_id"], row["group_id"], tuple(messages))


def _as_json(call: Chat) -> Chat:
    """Return a call whose arguments are JSON: one agent's logs have Python literals in places."""
    arguments = arguments_of(call)
    if not isinstance(arguments, str):
        return call
    text = json.dumps(ast.literal_eval(arguments), ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": text}}


def _joined(chosen: list[Conversation]) -> Iterator[Chat]:
    for place, conversation in enumerate(chosen):
        for one in conversation.messages[1:]:
            copy = dict(one)
            if "tool_calls" in one:
                calls = one["tool_calls"]
                copy["tool_calls"] = [{**call, "id": f"{call['id']}-{place}"} for call in calls]
            if "tool_call_id" in one:
                copy["tool_call_id"] = f"{one['tool_call_id']}-{place}"
            yield copy
