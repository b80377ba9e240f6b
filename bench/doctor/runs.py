"""A run in the form that faults are injected into: what was said, and batches of calls.

Recorded τ-bench runs are read into it, and written out again; generated ones begin in it.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

TRACES = Path(__file__).parents[3] / "shared" / "data" / "traces"
_READS = re.compile(r"(get|find|list|search|calculate|think|transfer_to_human)")
# One of the recorded agents prints results as the value of a variable.
_FAILED = re.compile(r"(?:# \w+ = )?['\"]?Error")
_KEYS = ("order_id", "reservation_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call with its result.

    Attributes:
        key: What it reads or writes; empty where that is nothing by name.
        needs: Values among its arguments that a result, and nobody else, brought up.
    """

    name: str
    args: Mapping[str, Any]
    result: str | None
    id: str = ""
    ok: bool = True
    writes: bool = False
    key: str = ""
    needs: tuple[str, ...] = ()
    took_s: float = 0.4


@dataclass(frozen=True, slots=True)
class Say:
    """Something that somebody said."""

    role: str
    text: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that one message of an assistant proposed together."""

    calls: tuple[Call, ...]
    text: str = ""
    actor: str = ""


Beat: TypeAlias = Say | Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run.

    Attributes:
        source: Where it is from: a domain of ours, or a folder of recorded ones.
        confirms: Whether its system prompt demands a yes before a change.
        error: What ended it, where something did.
        spans: What a writer of spans leaves out or does otherwise, by name; see `writers`.
    """

    trace_id: str
    source: str
    beats: tuple[Beat, ...]
    confirms: bool = False
    error: str = ""
    spans: Mapping[str, Any] = field(default_factory=dict)

    def calls(self) -> Iterator[tuple[int, int, Call]]:
        """Yield each call with the places of its batch, and of itself in that."""
        for at, beat in enumerate(self.beats):
            if isinstance(beat, Batch):
                for n, call in enumerate(beat.calls):
                    yield at, n, call

    def batch(self, at: int) -> Batch:
        """Return the batch at that place."""
        beat = self.beats[at]
        if not isinstance(beat, Batch):
            raise TypeError(beat)
        return beat

    def with_beats(self, *beats: Beat) -> Run:
        """Return the run with other beats; a batch without calls is left out."""
        kept = tuple(b for b in beats if not isinstance(b, Batch) or b.calls)
        return replace(self, beats=kept)

    def put(self, at: int, *beats: Beat) -> Run:
        """Return the run with beats put in before the one at `at`."""
        return self.with_beats(*self.beats[:at], *beats, *self.beats[at:])

    def changed(self, at: int, n: int, call: Call) -> Run:
        """Return the run with another call at that place."""
        batch = self.batch(at)
        calls = (*batch.calls[:n], call, *batch.calls[n + 1 :])
        return self.with_beats(*self.beats[:at], replace(batch, calls=calls), *self.beats[at + 1 :])

    def without(self, gone: set[tuple[int, int]]) -> Run:
        """Return the run without the calls at those places."""
        beats: list[Beat] = []
        for at, beat in enumerate(self.beats):
            if isinstance(beat, Batch):
                calls = tuple(c for n, c in enumerate(beat.calls) if (at, n) not in gone)
                beats.append(replace(beat, calls=calls))
            else:
                beats.append(beat)
        return self.with_beats(*beats)


def lines(folder: str, file: str, root: Path = TRACES) -> list[dict[str, Any]]:
    """Return what a file of recorded traces holds."""
    with gzip.open(root / folder / f"{file}.jsonl.gz", "rt", encoding="utf-8") as text:
        return [json.loads(line) for line in text]


def labels(folder: str, root: Path = TRACES) -> dict[str, dict[str, Any]]:
    """Return the labels of recorded traces, by their ids."""
    return {one["trace_id"]: one for one in lines(folder, "labels", root)}


def recorded(folder: str, *, passed: bool, root: Path = TRACES) -> list[Run]:
    """Return the runs of a folder that passed, or that failed."""
    known = labels(folder, root)
    return [
        read(one, folder)
        for one in lines(folder, "traces", root)
        if one.get("messages") and (float(known[one["trace_id"]]["reward"]) == 1.0) == passed
    ]


def arguments_of(raw: Any) -> dict[str, Any]:
    """Return the arguments of a recorded call; they are JSON or a Python literal."""
    if isinstance(raw, Mapping):
        return dict(raw)
    for reading in (json.loads, ast.literal_eval):
        try:
            made = reading(raw)
        except (ValueError, SyntaxError):
            continue
        return made if isinstance(made, dict) else {}
    return {}


def read(document: Mapping[str, Any], source: str) -> Run:
    """Return a recorded τ-bench run."""
    messages = document["messages"]
    beats: list[Beat] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if not message.get("tool_calls"):
            beats.append(Say(message["role"], message.get("content") or ""))
            continue
        calls = []
        for one in message["tool_calls"]:
            name, args = one["function"]["name"], arguments_of(one["function"]["arguments"])
            result = None
            if at < len(messages) and messages[at]["role"] == "tool":
                result = messages[at]["content"] or ""
                at += 1
            key = next((str(args[k]) for k in _KEYS if k in args), "")
            calls.append(
                Call(
                    name=name,
                    args=args,
                    result=result,
                    id=one.get("id") or "",
                    ok=result is not None and not _FAILED.match(result),
                    writes=not _READS.match(name),
                    key=key,
                )
            )
        beats.append(Batch(tuple(calls), message.get("content") or ""))
    policy = next((b.text for b in beats if isinstance(b, Say) and b.role == "system"), "")
    return Run(
        trace_id=document["trace_id"],
        source=source,
        beats=tuple(beats),
        confirms="confirmation" in policy,
        error=document.get("run_error") or "",
    )
