"""What a list of prompts lost of the session it was made from, by rules of its own.

Nothing of Undercroft is used here: what counts as an identifier is found by the rules below and
by looking at what later calls were given. Only their presence in the text of a prompt counts.

Keeps: a value that the system message has anyway is not scored; a value is present only as a
whole, not within a longer word; what could be fetched back is shown apart, never as present.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

from bench.context.counting import message_tokens, prompt_tokens
from bench.context.sessions import Chat, Session, arguments_of

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
# What people and tools call things by, each rule by itself.
RULES = tuple(
    re.compile(rule)
    for rule in (
        r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{2,24}){1,4}",  # an e-mail address
        r"#[A-Z]?\d{4,12}\b",  # an order
        r"\b[a-z]{2,24}_[a-z]{2,24}_\d{3,6}\b",  # an account
        r"\b(?:credit_card|gift_card|paypal|certificate)_\d{3,12}\b",  # a way to pay
        r"\b(?=[A-Z0-9]{0,5}\d)(?=[A-Z0-9]{0,5}[A-Z])[A-Z0-9]{6}\b",  # a reservation
        r"\b[A-Z]{3}\d{3}\b",  # a flight
        r"\b\d{5,16}\b",  # an item, a postcode, a phone number
        r"\b\d{4}-\d{2}-\d{2}\b",  # a day
        rf"\b(?:{MONTHS}) \d{{1,2}}\b",  # a day, too
        r"\$\d{1,3}(?:,?\d{3}){0,3}(?:\.\d{2})?(?!\d)",  # an amount
        r"\b\d{1,5} (?:[A-Z][a-z]{1,20} ){1,2}(?:Street|St|Avenue|Ave|Lane|Road|Drive|Way)\b",
    )
)
# Shorter values are words of every text; longer ones are prose.
CHARS_MIN, CHARS_MAX = 3, 80
DIGITS_MIN = 3
# What a calculator is given is no identifier, though the same may be computed twice.
SUM = re.compile(r"[\d\s.+\-*/()]+")
# Escapes of JSON within JSON would otherwise read as letters before a value.
ESCAPES = re.compile(r"\\+(?:[nrt]|u[0-9a-fA-F]{4})?")
HANDLE = re.compile(r"handle=\W{0,4}(r\d{1,9}\.\d{1,7})")


@dataclass(slots=True)
class Prompt:
    """What would have been sent.

    Attributes:
        messages: In OpenAI's form.
        behind: Texts that the model could fetch back by handles that stand in the prompt.
    """

    messages: list[Chat]
    behind: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a session should be in its prompts.

    Attributes:
        stated: Of each identifier that the user stated, the place of the message that did first.
        used: Of each assistant's message, the values given to its calls that were said before.
    """

    stated: dict[str, int]
    used: dict[int, tuple[str, ...]]

    @property
    def every(self) -> set[str]:
        """All of them."""
        return set(self.stated).union(*self.used.values())


@dataclass(slots=True)
class Score:
    """Counts; added up over sessions."""

    prompts: int = 0
    orphaned: int = 0
    over: int = 0
    worst_over: int = 0
    stated: int = 0
    lost: int = 0
    lost_back: int = 0
    stated_each: int = 0
    lost_each: int = 0
    used: int = 0
    missing: int = 0
    missing_back: int = 0
    pairs: int = 0
    kept_pairs: int = 0
    former_tokens: int = 0
    kept_tokens: int = 0
    tokens: int = 0
    misses: list[str] = field(default_factory=list)

    def add(self, other: Score) -> None:
        """Add another session's counts."""
        for name in self.__slots__:
            here, there = getattr(self, name), getattr(other, name)
            setattr(self, name, max(here, there) if name == "worst_over" else here + there)


# ------------------------------------------------------------------ what is wanted


def wanted_of(session: Session) -> Wanted:
    """Find what the user stated, and what was used later."""
    messages = session.messages
    texts = [text_of(one) for one in messages]
    anyway = texts[0]
    stated: dict[str, int] = {}
    for at, one in enumerate(messages):
        if one["role"] == "user":
            for value in _by_rules(one["content"]):
                stated.setdefault(value, at)
    used: dict[int, tuple[str, ...]] = {}
    users = [at for at, one in enumerate(messages) if one["role"] == "user"]
    for at in session.answers:
        values = dict.fromkeys(
            value
            for call in messages[at].get("tool_calls") or ()
            for value in _leaves(arguments_of(call))
            if not has(anyway, value)
        )
        before = [value for value in values if any(has(text, value) for text in texts[:at])]
        if before:
            used[at] = tuple(before)
        for value in before:
            first = next((user for user in users if user < at and has(texts[user], value)), None)
            if first is not None:
                stated.setdefault(value, first)
    stated = {value: at for value, at in stated.items() if not has(anyway, value)}
    return Wanted(stated, used)


def _by_rules(text: str) -> Iterator[str]:
    for rule in RULES:
        for found in rule.finditer(text):
            yield found[0].casefold()


def _leaves(data: Any) -> Iterator[str]:
    """Return the texts and numbers of arguments that are worth looking for."""
    if isinstance(data, dict):
        for value in data.values():
            yield from _leaves(value)
    elif isinstance(data, list):
        for value in data:
            yield from _leaves(value)
    elif isinstance(data, str):
        text = data.strip()
        if CHARS_MIN <= len(text) <= CHARS_MAX and not (" " in text and SUM.fullmatch(text)):
            yield text.casefold()
    elif isinstance(data, int | float) and not isinstance(data, bool):
        text = repr(data)
        if sum(map(str.isdigit, text)) >= DIGITS_MIN:
            yield text


# ------------------------------------------------------------------ what is there


def text_of(message: Chat) -> str:
    """Return all that a message says: its content, and the arguments of its calls."""
    parts = [_content(message.get("content"))]
    for call in message.get("tool_calls") or ():
        parts += (call["function"]["name"], call["function"]["arguments"])
    return plain("\n".join(parts))


def _content(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.get("text", "") for part in content)


@lru_cache(maxsize=20_000)
def unescaped(text: str) -> str:
    """Return a text without the escapes of JSON, of which a text may have several layers."""
    return ESCAPES.sub(_without, text)


def plain(text: str) -> str:
    """Return a text as it is searched: without escapes, and without case."""
    return unescaped(text).casefold()


def _without(found: re.Match[str]) -> str:
    code = found[0].lstrip("\\")
    return chr(int(code[1:], 16)) if code.startswith("u") else " " if code else ""


def has(text: str, value: str) -> bool:
    """Say whether `text`, as `plain` returns it, has `value` as a whole."""
    return place(text, value) >= 0


def place(text: str, value: str) -> int:
    """Return where `text` has `value` as a whole; -1 where it does not."""
    at = text.find(value)
    while at >= 0:
        end = at + len(value)
        if not (_joins(text[at - 1 : at], value[0]) or _joins(text[end : end + 1], value[-1])):
            break
        at = text.find(value, at + 1)
    return at


def _joins(neighbour: str, edge: str) -> bool:
    return bool(neighbour) and _wordy(neighbour) and _wordy(edge)


def _wordy(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


# ------------------------------------------------------------------ the score


def score(session: Session, wanted: Wanted, prompts: Sequence[Prompt], budget_tokens: int) -> Score:
    """Score the prompts of a session, one before each of the assistant's messages.

    Args:
        session: What was said.
        wanted: Of it.
        prompts: In order, as many as the session has answers.
        budget_tokens: The most that a prompt may have: the limit without what is reserved.
    """
    result = Score(prompts=len(prompts))
    texts: list[list[str]] = [[text_of(one) for one in each.messages] for each in prompts]
    for nth, (at, prompt) in enumerate(zip(session.answers, prompts, strict=True)):
        there = texts[nth]
        tokens = prompt_tokens(prompt.messages)
        result.tokens += tokens
        result.over += tokens > budget_tokens
        result.worst_over = max(result.worst_over, tokens - budget_tokens)
        result.orphaned += orphaned(prompt.messages)
        for value in wanted.used.get(at, ()):
            result.used += 1
            if not any(has(text, value) for text in there):
                back = _behind(prompt, value)
                result.missing += 1
                result.missing_back += back
                result.misses.append(f"{session.name} {at} used {value!r}{' (back)' * back}")
        for value, first in wanted.stated.items():
            if first < at:
                result.stated_each += 1
                result.lost_each += not any(has(text, value) for text in there)
    _at_the_end(result, session, wanted, prompts[-1], texts[-1])
    for former, latter in pairwise(prompts):
        _prefix(result, former.messages, latter.messages)
    return result


def _at_the_end(
    result: Score, session: Session, wanted: Wanted, last: Prompt, there: Sequence[str]
) -> None:
    for value, first in wanted.stated.items():
        if first >= session.answers[-1]:
            continue
        result.stated += 1
        if not any(has(text, value) for text in there):
            back = _behind(last, value)
            result.lost += 1
            result.lost_back += back
            result.misses.append(f"{session.name} {first} stated {value!r}{' (back)' * back}")


def _behind(prompt: Prompt, value: str) -> bool:
    return any(has(plain(text), value) for text in prompt.behind)


def orphaned(messages: Iterable[Chat]) -> bool:
    """Say whether a result stands without its call before it, or a call without its result.

    All calls of a prompt have one: a prompt is sent when the assistant is to say something.
    """
    waiting: set[str] = set()
    for one in messages:
        if one["role"] == "tool":
            if one.get("tool_call_id") not in waiting:
                return True
            waiting.discard(one["tool_call_id"])
        elif waiting:
            return True
        else:
            waiting = {call["id"] for call in one.get("tool_calls") or ()}
    return bool(waiting)


def _prefix(result: Score, former: Sequence[Chat], latter: Sequence[Chat]) -> None:
    same = 0
    for one, other in zip(former, latter, strict=False):
        if one != other and _bytes(one) != _bytes(other):
            break
        same += 1
    result.pairs += 1
    result.kept_pairs += same == len(former)
    result.former_tokens += sum(map(message_tokens, former))
    result.kept_tokens += sum(map(message_tokens, former[:same]))


def _bytes(message: Chat) -> str:
    return json.dumps(message, sort_keys=True, default=str)


def handles_in(messages: Iterable[Chat]) -> list[str]:
    """Return the handles that stand in a prompt, each once."""
    text = "\n".join(_content(one.get("content")) for one in messages)
    return list(dict.fromkeys(HANDLE.findall(text)))
