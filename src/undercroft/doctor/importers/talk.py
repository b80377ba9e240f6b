"""The conversation that the prompts of a run show between them, each message once.

Every prompt repeats what went before it: all of it, or the end of it, or a compacted form. What is
new in a prompt is what follows the longest part of the conversation with which it begins.
Keeps: no message twice; a call that has a span of its own is not read from messages again: they
are matched by id, else by name and arguments, each call with one span at most.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from undercroft.doctor.importers.said import Said, Wanted
from undercroft.model.case import CaseText, Flaw
from undercroft.model.symptom import quoted

# A message as far as it can be told apart from others.
_Mark: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...]]
# Agents that talk side by side; of more, the ones that spoke last are remembered.
_LINES_MAX = 16
# Shorter texts begin alike by chance.
_GROWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request to a model and its answer.

    Attributes:
        inner: Whether an agent asked that works for another one, and not for the user.
    """

    step: int
    prompt: tuple[Said, ...] | None
    answer: tuple[Said, ...] | None
    actor: str = ""
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A call that has a span of its own."""

    step: int
    name: str
    call_id: str
    arguments: Mapping[str, Any] | None
    raw: str
    result: str | None


@dataclass(slots=True)
class Wish:
    """A call that some message proposes.

    Attributes:
        step: Of the exchange whose answer proposes it, or whose prompt tells of it.
        past: Whether only a prompt tells of it: it was proposed before.
        ended: Step of the exchange whose prompt shows its result.
        failed: Whether it failed, where its result says so apart from its text.
    """

    step: int
    wanted: Wanted
    past: bool = False
    result: str | None = None
    ended: int | None = None
    failed: bool | None = None
    taken: bool = False


@dataclass(slots=True)
class _Line:
    """What one agent and its model said to each other so far."""

    marks: list[_Mark] = field(default_factory=list)
    last: int = -1


def canonical(arguments: Mapping[str, Any] | None, raw: str = "") -> str:
    """Return arguments as a text that does not depend on how they were written down."""
    if arguments is None:
        return raw.strip()
    try:
        return json.dumps(arguments, sort_keys=True, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return raw or "?"


class Talk:
    """What was said in a run, and which calls messages tell of.

    Args:
        opening: What the run was given, and at which steps, for where no prompt says it.
        exchanges: In the order of time.
        tools: Calls with spans of their own, in the order of time.

    Attributes:
        texts: What was said, in the order in which it was.
        done: Calls with spans of their own, each with the proposal that it carries out.
        left: Calls that only messages tell of.
        last_word: What the last answer for the user says, where it proposes no call.
    """

    def __init__(
        self,
        opening: Sequence[tuple[int, Said]],
        exchanges: Iterable[Exchange],
        tools: Sequence[Tool],
    ) -> None:
        self.texts: list[CaseText] = []
        self.flaws: list[Flaw] = []
        self.last_word: str | None = None
        self._lines: list[_Line] = []
        self._marks: dict[int, _Mark] = {}
        self._told: Counter[_Mark] = Counter()
        self._wishes: list[Wish] = []
        self._by_id: dict[str, Wish] = {}
        self._orphans: list[tuple[int, Said]] = []
        self._users = 0
        self._last_user = ""
        known = list(exchanges)
        if not any(said.role == "user" for one in known for said in one.prompt or ()):
            for step, said in opening:
                self._say(Exchange(step, None, None), said)
        for one in known:
            self._take(one)
        self.done = list(self._match(tools))
        self.left = list(self._unmatched(tools))
        self._note_orphans(tools)

    # ------------------------------------------------------------------ what is said

    def _take(self, one: Exchange) -> None:
        prompt = one.prompt or ()
        marks = [self._mark(said) for said in prompt]
        body = [mark for mark in marks if mark[0] != "system"]
        line, known = self._line(body)
        for said, mark in zip(prompt, marks, strict=True):
            if mark[0] == "system" and not self._told[mark]:
                self._told[mark] += 1
                self._say(one, said)
        spoken = [said for said in prompt if said.role != "system"]
        for said in self._new(spoken, body, known):
            self._say(one, said)
        answer = one.answer or ()
        if answer[: len(prompt)] == prompt:
            answer = answer[len(prompt) :]  # some frameworks give back all of the conversation
        for said in answer:
            self._answer(one, said)
        line.marks = body + [mark for said in answer if (mark := self._mark(said))[0] != "system"]
        line.last = one.step
        self._told.update(line.marks[len(body) :])
        if not one.inner and answer:
            texts = [said.text for said in answer if said.text]
            final = bool(texts) and not any(said.calls for said in answer)
            self.last_word = "\n".join(texts) if final else None

    def _mark(self, said: Said) -> _Mark:
        # By identity: prompts that repeat each other hold the very same messages.
        mark = self._marks.get(id(said))
        if mark is None:
            mark = self._marks[id(said)] = _mark(said)
        return mark

    def _line(self, body: Sequence[_Mark]) -> tuple[_Line, int]:
        """Return the line that a prompt goes on with, and how much of the prompt it knows."""
        best, most = None, 0
        for line in reversed(self._lines):
            known = _overlap(body, line.marks)
            if known > most:
                best, most = line, known
        if best is None:
            best = _Line()
            self._lines.append(best)
            del self._lines[:-_LINES_MAX]
        return best, most

    def _new(self, spoken: Sequence[Said], body: Sequence[_Mark], known: int) -> Iterator[Said]:
        """Yield the messages of a prompt that nothing before it said."""
        if known:
            for said, mark in zip(spoken[known:], body[known:], strict=True):
                self._told[mark] += 1
                yield said
            return
        # Another agent, or a window that was compacted: as often as it was said, it is known.
        left = Counter(self._told)
        for said, mark in zip(spoken, body, strict=True):
            if left[mark] > 0:
                left[mark] -= 1
                continue
            self._told[mark] += 1
            yield said

    def _say(self, one: Exchange, said: Said) -> None:
        """Take a message of a prompt."""
        if said.role == "tool":
            self._result(one, said)
            return
        for wanted in said.calls:
            if not self._is_open(wanted):
                self._wish(Wish(one.step, wanted, past=True))
        role, actor = said.role, said.actor
        if role != "system" and one.inner:
            role, actor = "other", actor or one.actor
        elif role == "user" and (told := self._grown(said.text)):
            # A prompt that is one text and holds all that was said before it.
            self._add(one.step, "other", said.text[told:].strip(), actor)
            return
        elif role == "user":
            self._users += 1
        elif role == "assistant":
            actor = actor or one.actor
        self._add(one.step, role, said.text, actor)

    def _grown(self, text: str) -> int:
        """Return how much of a text is one that stands at the beginning of it and was told."""
        last, self._last_user = self._last_user, text
        return len(last) if len(last) >= _GROWN_CHARS and text.startswith(last) else 0

    def _answer(self, one: Exchange, said: Said) -> None:
        if said.role == "tool":
            self._result(one, said)
            return
        for wanted in said.calls:
            self._wish(Wish(one.step, wanted))
        self._add(one.step, "other" if one.inner else "assistant", said.text, one.actor)

    def _add(self, step: int, role: str, text: str, actor: str) -> None:
        if text:
            turn = max(0, self._users - 1)
            self.texts.append(CaseText(step=step, role=role, text=text, actor=actor, turn=turn))

    # ------------------------------------------------------------------ calls and results

    def _wish(self, wish: Wish) -> None:
        self._wishes.append(wish)
        if wish.wanted.id:
            # An id may be used again: the last call of that id is the one that is answered.
            self._by_id[wish.wanted.id] = wish

    def _is_open(self, wanted: Wanted) -> bool:
        """Say whether a prompt repeats a call that an answer proposed, and nothing answered yet.

        A prompt is not known to go on where the one before it was not recorded.
        """
        known = self._by_id.get(wanted.id) if wanted.id else None
        return known is not None and known.result is None and known.wanted == wanted

    def _result(self, one: Exchange, said: Said) -> None:
        wish = self._by_id.get(said.call_id) if said.call_id else None
        if wish is None:
            wish = self._open(said)
        if wish is None:
            self._orphans.append((one.step, said))
        elif wish.result is None:
            wish.result, wish.ended, wish.failed = said.text, one.step, said.failed

    def _open(self, said: Said) -> Wish | None:
        """Return the oldest of the last calls that a result without a call's id may belong to."""
        found = None
        for wish in reversed(self._wishes):
            if wish.result is not None:
                break
            named = not said.actor or said.actor == wish.wanted.name
            if named and not (said.call_id and wish.wanted.id):
                found = wish
        return found

    def _match(self, tools: Sequence[Tool]) -> Iterator[tuple[Tool, Wish | None]]:
        """Yield each call that has a span with the proposal that it carries out."""
        by_key: dict[tuple[str, str], deque[Wish]] = {}
        by_name: dict[str, deque[Wish]] = {}
        for wish in sorted(self._wishes, key=lambda one: one.past):
            wanted = wish.wanted
            key = (wanted.name, canonical(wanted.arguments, wanted.raw))
            by_key.setdefault(key, deque()).append(wish)
            if not wish.past:
                by_name.setdefault(wanted.name, deque()).append(wish)
        found: dict[int, Wish] = {}
        for tool in tools:
            named = self._by_id.get(tool.call_id) if tool.call_id else None
            if named is not None and not named.taken:
                found[tool.step], named.taken = named, True
        # Frameworks add what they inject to the arguments, or write them in their own way.
        for near in (False, True):
            for tool in tools:
                if tool.step in found:
                    continue
                key = (tool.name, canonical(tool.arguments, tool.raw))
                wishes = by_name.get(tool.name) if near else by_key.get(key)
                if (match := _first(wishes, tool, near=near)) is not None:
                    found[tool.step] = match
        for tool in tools:
            yield tool, found.get(tool.step)

    def _unmatched(self, tools: Sequence[Tool]) -> Iterator[Wish]:
        """Yield calls that have no span.

        Where others have one and nothing ever answered it, the last answer's call may be no call
        at all but the form of that answer.
        """
        ends = {line.last for line in self._lines}
        for wish in self._wishes:
            ending = wish.step in ends and not wish.past and wish.result is None
            if not wish.taken and not (ending and tools):
                yield wish

    def _note_orphans(self, tools: Sequence[Tool]) -> None:
        ids = {tool.call_id for tool in tools}
        results = {tool.result for tool in tools}
        for step, said in self._orphans:
            if said.call_id and said.call_id not in ids and said.text not in results:
                quote = quoted(f"{said.call_id}: {said.text}")
                self.flaws.append(Flaw(kind="orphan_result", steps=(step,), quote=quote))


def _first(wishes: deque[Wish] | None, tool: Tool, *, near: bool = False) -> Wish | None:
    """Take the first proposal that a span may carry out.

    Args:
        wishes: Proposals, the oldest first.
        tool: The span.
        near: Whether only a proposal counts that was not answered before the span began.
    """
    while wishes and wishes[0].taken:
        wishes.popleft()
    for wish in wishes or ():
        if wish.taken or (tool.call_id and wish.wanted.id and tool.call_id != wish.wanted.id):
            continue
        if not wish.past and wish.step > tool.step:
            continue
        if near and wish.ended is not None and wish.ended < tool.step:
            continue
        wish.taken = True
        return wish
    return None


def _mark(said: Said) -> _Mark:
    if said.role == "tool":
        return "tool", said.text.strip(), ((said.call_id, ""),)
    calls = tuple((one.name, canonical(one.arguments, one.raw)) for one in said.calls)
    return said.role, said.text.strip(), calls


def _overlap(body: Sequence[_Mark], marks: Sequence[_Mark]) -> int:
    """Return how many of the first messages of `body` are the last ones of `marks`."""
    if not body or not marks:
        return 0
    if body[: len(marks)] == marks:
        return len(marks)
    # The border of the two together, found as by Knuth, Morris and Pratt.
    both: list[_Mark | None] = [*body, None, *marks[-len(body) :]]
    border = [0] * len(both)
    for place in range(1, len(both)):
        length = border[place - 1]
        while length and both[place] != both[length]:
            length = border[length - 1]
        border[place] = length + (both[place] == both[length])
    return border[-1]
