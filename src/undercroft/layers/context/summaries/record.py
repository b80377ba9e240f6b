"""A summary as a record: what it says, what that rests on, and which items it stands for.

Keeps: an id of a fact is given once in a session; all sources are among the items covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import msgspec


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known.

    Attributes:
        id: `s<summary>.f<n>`.
        sources: Ids of the items that it rests on.
        supersedes: Ids of facts before it that hold no more.
    """

    id: str
    text: str
    sources: tuple[int, ...]
    supersedes: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was chosen, agreed or refused, and why."""

    text: str
    sources: tuple[int, ...]
    why: str = ""


class Artifact(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was made or changed, and the state that it is in."""

    name: str
    sources: tuple[int, ...]
    text: str = ""


class OpenItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is still to be done, asked or waited for."""

    text: str
    sources: tuple[int, ...]


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was tried and did not work, and why."""

    text: str
    sources: tuple[int, ...]
    why: str = ""


Entry: TypeAlias = Fact | Decision | Artifact | OpenItem | Attempt


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands for items that are shown no more.

    Attributes:
        id: Its number; no other summary of the session has it.
        covers: Ids of the items that it stands for, in their order.
        intent: What the user wants.
        failed: What was tried and did not work.
    """

    id: int
    covers: tuple[int, ...]
    intent: str = ""
    decisions: tuple[Decision, ...] = ()
    facts: tuple[Fact, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    open_items: tuple[OpenItem, ...] = ()
    failed: tuple[Attempt, ...] = ()


class Source(NamedTuple):
    """One item that is to be summarised: who said it, and its text, calls included."""

    item: int
    role: str
    text: str


class Placed(NamedTuple):
    """One entry of a summary: the field it stands in, and the id by which it can be cited."""

    field: str
    id: str
    entry: Entry


def entries(summary: Summary) -> Iterator[Placed]:
    """Yield all entries of a summary, in the order in which they are shown."""
    for place, decision in enumerate(summary.decisions, 1):
        yield Placed("decisions", f"s{summary.id}.d{place}", decision)
    for fact in summary.facts:
        yield Placed("facts", fact.id, fact)
    for place, artifact in enumerate(summary.artifacts, 1):
        yield Placed("artifacts", f"s{summary.id}.a{place}", artifact)
    for place, item in enumerate(summary.open_items, 1):
        yield Placed("open_items", f"s{summary.id}.o{place}", item)
    for place, attempt in enumerate(summary.failed, 1):
        yield Placed("failed", f"s{summary.id}.x{place}", attempt)


def superseded(summaries: Iterable[Summary]) -> set[str]:
    """Return the ids of facts that a later fact of `summaries` supersedes."""
    before: set[str] = set()
    gone: set[str] = set()
    for summary in summaries:
        for fact in summary.facts:
            gone.update(one for one in fact.supersedes if one in before)
            before.add(fact.id)
    return gone


def texts(entry: Entry) -> tuple[str, ...]:
    """Return what an entry says, each text of it apart."""
    match entry:
        case Artifact():
            return (entry.name, entry.text)
        case Decision() | Attempt():
            return (entry.text, entry.why)
        case Fact() | OpenItem():
            return (entry.text,)
