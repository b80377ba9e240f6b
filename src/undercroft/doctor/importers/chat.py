"""Messages in the order of the input, as one run: what all chat formats have in common.

Keeps: a step is the place of a message in the list; a result belongs to one call, by its id, else
by name and order within the messages that asked for it last; a result that belongs to none is
kept as words of a tool, and is a flaw.
Leaves to the importers: which object is a message, and what else a file says of its run.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from undercroft.doctor.arguments import as_text
from undercroft.doctor.importers.facets import shown
from undercroft.doctor.importers.pending import Pending
from undercroft.doctor.importers.said import (
    Said,
    Wanted,
    offered,
    read_messages,
    read_usage,
    text_of,
)
from undercroft.doctor.importers.times import read_time
from undercroft.doctor.statuses import Inferred, error_class_of, infer_status, said_error
from undercroft.model.case import (
    Basis,
    CallStatus,
    Case,
    CaseAsk,
    CaseCall,
    CaseText,
    Facet,
    Flaw,
)
from undercroft.model.symptom import quoted

ITEMS = frozenset({"function_call", "function_call_output", "reasoning", "custom_tool_call"})
ENDS = re.compile(
    r"transfer|hand_?-?(?:off|over)|escalat|finish|submit|terminate|final|complete_|_complete"
    r"|\b(?:end|done|stop|exit|respond|reply|answer)\b|(?:end|stop|close)_(?:conversation|chat|session)",
    re.IGNORECASE,
)
_TIME_KEYS = ("created_at", "timestamp", "createdAt", "time", "ts", "created", "date", "datetime")
_STOP_MARKS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
_STOP_KEYS = ("finish_reason", "stop_reason", "finishReason", "stopReason")
_ID_KEYS = (
    *("trace_id", "traceId", "conversation_id", "conversationId", "session_id", "sessionId"),
    *("thread_id", "threadId", "run_id", "runId", "dialogue_id", "chat_id", "episode_id"),
)
_ERROR_KEYS = ("run_error", "runError", "error", "exception", "error_message")


@dataclass(frozen=True, slots=True)
class Line:
    """A message, read.

    Attributes:
        said: What it says; several where it holds results beside words.
        raw: The message, for its time and its tokens; None where it is no object.
        flaw: What is there instead of a message; empty where it is one.
    """

    said: tuple[Said, ...]
    raw: Mapping[str, Any] | None = None
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What a record says of its run as a whole.

    Attributes:
        error: What ended it; empty where nothing is said.
        tools: Names of those on offer.
        asks: Requests to models, where the record shows them apart; None where messages
            themselves say what they cost or why they stopped.
        preface: What was said before the first message, and is no message of the input.
    """

    trace_id: str
    error: str = ""
    tools: frozenset[str] | None = None
    asks: tuple[CaseAsk, ...] | None = None
    preface: tuple[Line, ...] = ()


def read_line(raw: object) -> Line:
    """Return the message that `raw` is."""
    if isinstance(raw, str):
        return Line((Said("other", raw),), None, quoted(raw) or "empty text")
    if not isinstance(raw, Mapping):
        return Line((), None, quoted(as_text(raw)))
    if not _says_whose(raw):
        # Whoever said it: it may be a document that holds messages of its own, and is none.
        content = raw.get("content")
        text = text_of(content) if isinstance(content, str | list) else ""
        words = (Said("other", text),) if text else ()
        return Line(words, raw, f"no role: {quoted(as_text(raw))}")
    said = read_messages(raw, "other") or ()
    if not said and isinstance(raw.get("refusal"), str) and raw["refusal"]:
        said = (Said("assistant", raw["refusal"]),)
    return Line((*said, *_own_results(raw)), raw)


def _says_whose(raw: Mapping[str, Any]) -> bool:
    """Whether a message says who it is from, or what it is."""
    if isinstance(raw.get("role"), str) and raw["role"]:
        return True
    kind = raw.get("type")
    if isinstance(kind, str) and (kind in ITEMS or "content" in raw or "data" in raw):
        return True
    return "lc" in raw and "kwargs" in raw


def _own_results(raw: Mapping[str, Any]) -> Iterable[Said]:
    """Yield results of tools that the provider runs, which stand beside their calls."""
    content = raw.get("content")
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        kind, of = part.get("type"), part.get("tool_use_id")
        if isinstance(kind, str) and kind.endswith("_tool_result") and isinstance(of, str):
            yield Said("tool", as_text(part.get("content")), "", (), of)


def id_of(record: object) -> str:
    """Return the run's name that a record states; empty where it states none."""
    if not isinstance(record, Mapping):
        return ""
    places = [record, record.get("metadata"), record.get("request")]
    for place in places:
        if isinstance(place, Mapping):
            for key in _ID_KEYS:
                named = place.get(key)
                if isinstance(named, str | int) and not isinstance(named, bool) and named != "":
                    return str(named)[:200]
    return ""


def error_of(document: Mapping[str, Any]) -> str:
    """Return what a document says ended its run as a whole; empty where it says nothing."""
    for key in _ERROR_KEYS:
        if document.get(key):
            return said_error(document[key])
    return ""


def tools_of(document: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the names of the tools that a document says were on offer."""
    for place in (document, document.get("request"), document.get("metadata")):
        if isinstance(place, Mapping):
            names = offered(place.get("tools")) or offered(place.get("functions"))
            if names:
                return names
    return None


def build(lines: Iterable[Line], about: About, *, form: str, can_show: AbstractSet[Facet]) -> Case:
    """Return the run that consists of `lines`.

    Args:
        lines: Its messages, in the order of the input.
        about: What else the record says of it.
        form: Name of the format.
        can_show: What the format can carry.
    """
    run = _Run()
    for line in about.preface:
        run.take(line)
        run.step = 0
    for line in lines:
        run.take(line)
    asks = run.asks
    if about.asks is not None:
        asks = [replace(ask, turn=run.turn_at(ask.step)) for ask in about.asks]
    case = Case(
        trace_id=about.trace_id,
        format=form,
        steps=run.step,
        texts=tuple(run.texts),
        calls=tuple(run.calls),
        asks=tuple(asks),
        flaws=run.all_flaws(),
        error=about.error,
        finished=True if about.error else run.finished(),
        delivered=run.delivered(),
        tools=about.tools,
    )
    facets = shown(case, can_show, statuses=run.told_statuses)
    if Facet.TIMES in can_show and any(text.at is not None for text in case.texts):
        facets |= {Facet.TIMES}
    return replace(case, shows=facets)


def _batch_key(line: Line) -> str:
    """Return what messages have in common whose calls were asked for together.

    Items of Responses are messages of their own, and some logs write each part of a message down
    as a message, all under its id.
    """
    if line.raw is None:
        return ""
    kind = line.raw.get("type")
    if isinstance(kind, str) and kind in ITEMS:
        return "item"
    named = line.raw.get("id")
    spoke = any(said.role == "assistant" for said in line.said)
    return named if spoke and isinstance(named, str) else ""


def _ending(name: str, said: Said) -> dict[str, Any]:
    """Return how a call ended, by what its result says of that, or lets infer."""
    found = infer_status(said.text, name=name)
    if said.failed is True and found.status in {CallStatus.OK, CallStatus.WAITING}:
        error = said_error(said.text) or "failed"
        found = Inferred(CallStatus.FAILED, error, error_class_of(error))
    # Many set no flag, or never set it: words that say that it failed count as well.
    declared = said.failed is not None and said.failed is (found.status is not CallStatus.OK)
    return {
        "status": found.status,
        "status_basis": Basis.DECLARED if declared else Basis.INFERRED,
        "error": found.error,
        "error_class": found.error_class,
    }


class _Run:
    """What has been read of a run so far."""

    def __init__(self) -> None:
        self.step = 0
        self.texts: list[CaseText] = []
        self.calls: list[CaseCall] = []
        self.asks: list[CaseAsk] = []
        self.told_statuses = False
        self._flaws: dict[str, list[int]] = {}
        self._quotes: dict[str, str] = {}
        self._users: list[int] = []
        self._pending = Pending()
        self._batch = -1
        self._batch_key = ""
        self._latest: float | None = None

    # --- reading -------------------------------------------------------------------------------

    def take(self, line: Line) -> None:
        """Add the next message."""
        if line.flaw:
            self._flaw("unreadable", line.flaw)
        at = self._time(line.raw)
        key = _batch_key(line)
        if not key or key != self._batch_key:
            self._batch_key, self._batch = key, -1
        for said in line.said:
            if said.role == "tool":
                self._result(said, at)
                continue
            if said.text or not said.calls:
                self._text(said, at)
            if said.calls:
                self._propose(said, at)
        if line.raw is not None:
            self._ask(line, at)
        self.step += 1

    def _time(self, raw: Mapping[str, Any] | None) -> float | None:
        if raw is None:
            return None
        at = None
        for key in _TIME_KEYS:
            if key in raw and (at := read_time(raw[key])) is not None:
                break
        if at is not None:
            if self._latest is not None and at < self._latest:
                self._flaw("out_of_order", f"{at} after {self._latest}")
            self._latest = max(at, self._latest or at)
        return at

    def _text(self, said: Said, at: float | None) -> None:
        if said.role == "user":
            self._users.append(self.step)
        self.texts.append(
            CaseText(
                step=self.step,
                role=said.role,
                text=said.text,
                actor=said.actor,
                at=at,
                turn=self._turn(),
            )
        )

    def _propose(self, said: Said, at: float | None) -> None:
        if self._batch < 0:
            self._batch = self.step
            self._pending.begin_batch()
        for wanted in said.calls:
            n = len(self.calls)
            self.calls.append(self._call(wanted, said.actor, at))
            if wanted.id and self._pending.knows(wanted.id):
                self._flaw("duplicate_id", wanted.id)
            self._pending.ask(n, wanted.id, wanted.name)

    def _call(self, wanted: Wanted, actor: str, at: float | None) -> CaseCall:
        return CaseCall(
            step=self.step,
            name=wanted.name,
            id=wanted.id,
            arguments=wanted.arguments,
            raw=wanted.raw,
            actor=actor,
            batch=self._batch,
            began_at=at,
            turn=self._turn(),
        )

    def _result(self, said: Said, at: float | None) -> None:
        self._batch_key, self._batch = "", -1
        n = self._pending.answer(said.call_id, said.actor)
        if n is None:
            known = self._pending.knows(said.call_id)
            self._flaw("duplicate_id" if known else "orphan_result", said.call_id or said.text)
            self.texts.append(
                CaseText(
                    step=self.step,
                    role="other",
                    text=said.text,
                    actor=said.actor,
                    at=at,
                    turn=self._turn(),
                )
            )
            return
        call = self.calls[n]
        took_s = at - call.began_at if at is not None and call.began_at is not None else None
        if took_s is not None and took_s < 0:
            self._flaw("negative_duration", f"{took_s} s")
            took_s = None
        ended = _ending(call.name, said)
        self.told_statuses = self.told_statuses or said.failed is not None
        self.calls[n] = replace(call, ended=self.step, result=said.text, took_s=took_s, **ended)

    def _ask(self, line: Line, at: float | None) -> None:
        """Add what a message says of the request that it is the answer to."""
        raw = line.raw or {}
        used = read_usage(raw.get("usage") or raw.get("usage_metadata"))
        stop = next((str(raw[k]) for k in _STOP_KEYS if k in raw and isinstance(raw[k], str)), "")
        if used == (None, None) and not stop:
            return
        texts = [said for said in line.said if said.role == "assistant"]
        if not texts:
            return
        model = raw.get("model")
        self.asks.append(
            CaseAsk(
                step=self.step,
                model=model if isinstance(model, str) else "",
                actor=texts[0].actor,
                answer=texts[0].text,
                stop=stop,
                input_tokens=used[0],
                output_tokens=used[1],
                status=CallStatus.OK,
                began_at=at,
                turn=self._turn(),
            )
        )

    # --- what comes of it ----------------------------------------------------------------------

    def _turn(self) -> int:
        return max(len(self._users) - 1, 0)

    def turn_at(self, step: int) -> int:
        """Return the number of the turn in which a step lies."""
        return max(bisect_right(self._users, step) - 1, 0)

    def _flaw(self, kind: str, quote: str) -> None:
        steps = self._flaws.setdefault(kind, [])
        if not steps or steps[-1] != self.step:
            steps.append(self.step)
        self._quotes.setdefault(kind, quoted(quote))

    def all_flaws(self) -> tuple[Flaw, ...]:
        """Return what is wrong with the record, one flaw a kind."""
        flaws = [
            Flaw(kind=k, steps=tuple(s), quote=self._quotes[k]) for k, s in self._flaws.items()
        ]
        nameless = tuple(dict.fromkeys(call.step for call in self.calls if not call.id))
        # Where no call has one, the format has none.
        if nameless and any(call.id for call in self.calls):
            flaws.append(Flaw(kind="missing_id", steps=nameless))
        if self.step == 0:
            flaws.append(Flaw(kind="no_steps"))
        return tuple(flaws)

    def delivered(self) -> str | None:
        """Return the last words of an assistant."""
        return next(
            (text.text for text in reversed(self.texts) if text.role == "assistant" and text.text),
            None,
        )

    def finished(self) -> bool | None:
        """Say whether the last message is an end."""
        last = self.step - 1
        calls = [call for call in self.calls if last in {call.step, call.ended}]
        if calls:
            return any(ENDS.search(call.name) for call in calls)
        texts = [text for text in self.texts if text.step == last]
        if any(text.role == "assistant" for text in texts):
            return True
        return True if any(mark in t.text for t in texts for mark in _STOP_MARKS) else None
