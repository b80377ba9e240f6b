"""Summaries: what a model is asked to condense, what of its answer is believed, how it is shown.

Keeps: a summary that is used is smaller than what it stands for, has lost no identifier that the
ledger has not, invents none, and cites for each of its entries items that it covers; one that
does not is refused whole. Shown it is data: no text of it can look like the end of its frame or
like a message. Instructions in it are therefore not looked for: they are text like any other.
Leaves to the window: which items are summarised, what then becomes of them, and the call.
The record is in `summary_record`, the request in `summary_ask`, an answer's shape in
`summary_answer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from undercroft.layers.context.summaries.answer import Answer, Unusable, parse, shown
from undercroft.layers.context.summaries.record import (
    Artifact,
    Attempt,
    Decision,
    Entry,
    Fact,
    OpenItem,
    Source,
    Summary,
    entries,
    superseded,
    texts,
)
from undercroft.layers.context.summaries.request import ask
from undercroft.layers.context.summaries.text import (
    Texts,
    clean,
    framed,
    spellings,
    telling,
    written,
)

__all__ = [
    "Artifact",
    "Attempt",
    "Decision",
    "Fact",
    "Invalid",
    "OpenItem",
    "Source",
    "Summary",
    "ask",
    "read",
    "render",
    "replaced",
    "said",
]

_NAMED_MAX = 8


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why an answer is not used.

    Attributes:
        problem: What is wrong with it, for a developer.
        rule: One word for that: `long`, `empty`, `prose`, `deep`, `shape`, `sources`,
            `supersedes`, `lost`, `invented`, `large` or `larger`.
    """

    problem: str
    rule: str


def render(summaries: Sequence[Summary]) -> str:
    """Return what the model reads in the place of summarised items; empty if there are none.

    It is one message of the user's role: a frame that says what it is, and in it a line of
    JSON for each summary. Facts that a later one supersedes are left out; so are sources,
    which cost tokens and help only who has the records.
    """
    gone = superseded(summaries)
    lines = [_line(one, gone) for one in summaries]
    return framed(lines) if lines else ""


def replaced(summary: Summary, earlier: Iterable[Summary]) -> list[tuple[Fact, Fact]]:
    """Return each fact that a fact of `summary` supersedes, together with that."""
    facts = {fact.id: fact for one in (*earlier, summary) for fact in one.facts}
    return [(facts[old], new) for new in summary.facts for old in new.supersedes if old in facts]


def said(summaries: Sequence[Summary]) -> list[str]:
    """Return the texts that are shown of summaries, each apart and as it was said."""
    return _all_texts(summaries, superseded(summaries))


def read(  # noqa: PLR0913, PLR0917  all that an answer is measured by
    text: str,
    sources: Sequence[Source],
    required: Sequence[str],
    earlier: Sequence[Summary],
    tokens_max: int,
    count: Callable[[str], int],
    summary_id: int,
    known: Callable[[str], bool],
    identifiers: Callable[[str], Iterable[str]],
    *,
    replaces_tokens: int | None = None,
) -> Summary | Invalid:
    """Return the summary that a model's answer is, or why it is not used.

    Args:
        text: The answer.
        sources: As in the request.
        required: As in the request. They must be shown: what only a superseded fact says is
            lost.
        earlier: As in the request; the new one covers what they do.
        tokens_max: As in the request.
        count: Tokens of a text.
        summary_id: Number of the new summary.
        known: Whether the ledger has a value, so that it need not be copied.
        identifiers: Those of a text. What no source has is invented, unless it is a name, a word or
            a small number: those may be said anew.
        replaces_tokens: Of what it replaces, as that is shown now; without it, of the texts
            of `sources` and of `earlier`.
    """
    before = replaces_tokens
    if before is None:
        before = sum(count(source.text) for source in sources) + count(render(earlier))
    try:
        summary = _Reading(sources, earlier, summary_id).summary(parse(text, tokens_max))
        _check_copied(summary, required, known)
        _check_told(summary, sources, required, earlier, known, identifiers)
        _check_size(count(render((summary,))), before, tokens_max)
    except Unusable as refused:
        return Invalid(refused.problem, refused.rule)
    return summary


class _Reading:
    """An answer with the ids of the request in it is made a record with those of items."""

    def __init__(
        self, sources: Sequence[Source], earlier: Sequence[Summary], summary_id: int
    ) -> None:
        self._id = summary_id
        self._covers = {source.item for source in sources}.union(*(one.covers for one in earlier))
        gone = superseded(earlier)
        self._items: dict[str, tuple[int, ...]] = {
            f"m{place}": (source.item,) for place, source in enumerate(sources, 1)
        }
        # Facts that may be superseded, by the name that the model knows them by.
        self._facts: dict[str, str] = {}
        for one in earlier:
            for _, entry_id, entry in entries(one):
                if entry_id not in gone:
                    self._items[entry_id] = entry.sources
                    self._facts |= {entry_id: entry_id} if isinstance(entry, Fact) else {}

    def summary(self, answer: Answer) -> Summary:
        """Return the record.

        Raises:
            Unusable: It says nothing, or names what was not in the request.
        """
        decisions = tuple(
            Decision(*self._said(f"decisions[{place}]", one.text, one.sources), clean(one.why))
            for place, one in enumerate(answer.decisions)
        )
        facts = tuple(
            Fact(
                f"s{self._id}.f{place + 1}",
                *self._said(f"facts[{place}]", one.text, one.sources),
                self._older(place, one.supersedes),
            )
            for place, one in enumerate(answer.facts)
        )
        artifacts = tuple(
            Artifact(*self._said(f"artifacts[{place}]", one.name, one.sources), clean(one.text))
            for place, one in enumerate(answer.artifacts)
        )
        open_items = tuple(
            OpenItem(*self._said(f"open_items[{place}]", one.text, one.sources))
            for place, one in enumerate(answer.open_items)
        )
        failed = tuple(
            Attempt(*self._said(f"failed[{place}]", one.text, one.sources), clean(one.why))
            for place, one in enumerate(answer.failed)
        )
        if not (decisions or facts or artifacts or open_items or failed):
            raise Unusable("empty", f"the summary says nothing of {len(self._covers)} items")
        covers, intent = tuple(sorted(self._covers)), clean(answer.intent)
        return Summary(self._id, covers, intent, decisions, facts, artifacts, open_items, failed)

    def _said(self, where: str, text: str, names: Sequence[str]) -> tuple[str, tuple[int, ...]]:
        cleaned = clean(text)
        if not cleaned:
            raise Unusable("empty", f"{where} of the summary is empty")
        if not names:
            raise Unusable("sources", f"{where} of the summary cites no source")
        for name in names:
            if name not in self._items:
                problem = (
                    f"{where} of the summary cites {shown(name)}, which was not in the request"
                )
                raise Unusable("sources", problem)
        return cleaned, tuple(sorted({item for name in names for item in self._items[name]}))

    def _older(self, place: int, names: Sequence[str]) -> tuple[str, ...]:
        for name in names:
            if name not in self._facts:
                problem = (
                    f"facts[{place}] of the summary supersedes {shown(name)}, no fact before it"
                )
                raise Unusable("supersedes", problem)
        self._facts[f"f{place + 1}"] = f"s{self._id}.f{place + 1}"
        return tuple(dict.fromkeys(self._facts[name] for name in names))


def _check_copied(summary: Summary, required: Sequence[str], known: Callable[[str], bool]) -> None:
    copied = Texts(said((summary,)))
    lost = [one for one in required if not copied.holds(one) and not known(one)]
    if lost:
        raise Unusable("lost", f"neither the summary nor the ledger has {_named(lost)}")


def _check_told(  # noqa: PLR0913, PLR0917  two sides that are compared
    summary: Summary,
    sources: Sequence[Source],
    required: Sequence[str],
    earlier: Sequence[Summary],
    known: Callable[[str], bool],
    identifiers: Callable[[str], Iterable[str]],
) -> None:
    told = Texts([*(one.text for one in sources), *_all_texts(earlier), *required])
    used = dict.fromkeys(one for text in _all_texts((summary,)) for one in identifiers(text))
    invented = [one for one in used if not _is_told(one, lambda o: told.holds(o) or known(o))]
    if invented:
        raise Unusable("invented", f"the summary has {_named(invented)}, which no source has")


def _is_told(value: str, holds: Callable[[str], bool]) -> bool:
    # Whoever condenses may join parts, or write a number or a mark as people do.
    return holds(value) or all(any(map(holds, spellings(part))) for part in telling(value))


def _check_size(tokens: int, before: int, tokens_max: int) -> None:
    if tokens > tokens_max:
        raise Unusable("large", f"the summary has {tokens} tokens; at most {tokens_max} fit")
    if tokens >= before:
        problem = f"the summary has {tokens} tokens; what it stands for has only {before}"
        raise Unusable("larger", problem)


def _all_texts(summaries: Iterable[Summary], gone: AbstractSet[str] = frozenset()) -> list[str]:
    found: list[str] = []
    for one in summaries:
        found.append(one.intent)
        for _, entry_id, entry in entries(one):
            found += () if entry_id in gone else texts(entry)
    return [text for text in found if text]


def _named(values: Sequence[str]) -> str:
    more = len(values) - _NAMED_MAX
    first = ", ".join(shown(value) for value in values[:_NAMED_MAX])
    return f"{first} and {more} more" if more > 0 else first


def _line(summary: Summary, gone: set[str]) -> str:
    data: dict[str, str | list[str]] = {"intent": summary.intent} if summary.intent else {}
    lists: dict[str, list[str]] = {}
    for field, entry_id, entry in entries(summary):
        if entry_id not in gone:
            lists.setdefault(field, []).append(_shown(entry))
    return written(data | lists)


def _shown(entry: Entry) -> str:
    match entry:
        case Artifact(name=name, text=text):
            return f"{name}: {text}" if text else name
        case Decision(text=text, why=why) | Attempt(text=text, why=why) if why:
            return f"{text} (why: {why})"
        case _:
            return entry.text
