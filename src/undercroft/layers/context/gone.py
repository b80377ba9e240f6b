"""Gone: what one prompt of a finished run held and a later one, that goes on from it, does not.

Keeps: prompts are compared only where one goes on with the conversation of the other, that is,
holds something that was said or returned in it; a prompt of another kind, such as that of a
summary or of a router, is none. System texts may change, and may move: gone are they where a
prompt has fewer of them. A request may leave with a summary that stands for it, or when a newer
one is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.layers.context.compacted import is_summary
from undercroft.model.case import Case, CaseAsk

_SYSTEM = frozenset({"system", "developer"})
# Shorter ones are found everywhere: "yes", "ok".
_CHARS_MIN = 12
_REQUEST_CHARS_MIN = 4


@dataclass(frozen=True, slots=True)
class Gone:
    """Something pinned that a later prompt does not hold.

    Attributes:
        step: Of the later prompt.
        before: Of the last one that held it.
        what: `system text`, `request of the user` or `pinned text`.
    """

    step: int
    before: int
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt, as far as it is compared."""

    ask: CaseAsk
    systems: tuple[str, ...]
    said: frozenset[str]
    users: tuple[str, ...]
    texts: frozenset[str]
    summed: bool


def gone(case: Case) -> Iterator[Gone]:
    """Return what left the prompts of a run and should not have, once for each thing."""
    newest: dict[str, _Prompt] = {}
    last: dict[str, CaseAsk] = {}
    told: set[tuple[str, str]] = set()
    for ask in _in_order(case.asks):
        if ask.prompt is None:
            continue
        known = last.get(ask.actor)
        if known is not None and _begins_with(ask, known):
            last[ask.actor] = ask  # it has all that the one before had
            continue
        if known is not None:
            newest[ask.actor] = _read(known)
        prompt = _read(ask)
        before = newest.get(ask.actor)
        if before is not None and not _goes_on(before, prompt):
            if len(prompt.said) > len(before.said):
                last[ask.actor] = ask
            continue
        if before is not None:
            for what, text in _lost(before, prompt):
                if (ask.actor, text) not in told:
                    told.add((ask.actor, text))
                    yield Gone(ask.step, before.ask.step, what, text)
        last[ask.actor] = ask


def unpinned(case: Case) -> Iterator[Gone]:
    """Return the first prompt without each text that, as somebody says, must stand in all."""
    for pin in case.pins:
        wanted = _plain(pin)
        had: dict[str, CaseAsk] = {}
        for ask in _in_order(case.asks) if wanted else ():
            known = had.get(ask.actor)
            if ask.prompt is None or (known is not None and _begins_with(ask, known)):
                continue
            if not any(wanted in _plain(text) for _, text in ask.prompt):
                yield Gone(ask.step, ask.step, "pinned text", wanted)
                break
            had[ask.actor] = ask


def _begins_with(ask: CaseAsk, known: CaseAsk) -> bool:
    """Say whether a prompt begins with another, whole: then nothing of that is gone."""
    mine, other = ask.prompt or (), known.prompt or ()
    return len(mine) >= len(other) and mine[: len(other)] == other


def _in_order(asks: tuple[CaseAsk, ...]) -> list[CaseAsk]:
    if any(ask.began_at is None for ask in asks):
        return list(asks)
    return sorted(asks, key=lambda ask: (ask.began_at or 0.0, ask.step))


def _read(ask: CaseAsk) -> _Prompt:
    messages = [(role, _plain(text)) for role, text in ask.prompt or ()]
    return _Prompt(
        ask,
        tuple(text for role, text in messages if role in _SYSTEM and len(text) >= _CHARS_MIN),
        frozenset(t for r, t in messages if r not in {*_SYSTEM, "user"} and len(t) >= _CHARS_MIN),
        tuple(text for role, text in messages if role == "user"),
        frozenset(text for _, text in messages),
        any(is_summary(text) for _, text in ask.prompt or ()),
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


def _goes_on(before: _Prompt, prompt: _Prompt) -> bool:
    """Say whether a prompt goes on with the conversation of another."""
    if before.said:
        return not before.said.isdisjoint(prompt.said)
    # The first one has nothing but a request; the next has what the model said to it.
    users = {text for text in before.users if len(text) >= _REQUEST_CHARS_MIN}
    if not users.isdisjoint(prompt.users):
        return bool(prompt.said)
    return before.ask.answer is not None and _plain(before.ask.answer) in prompt.said


def _holds(prompt: _Prompt, text: str) -> bool:
    """Say whether a text stands in a prompt, by itself or in another."""
    return text in prompt.texts or any(text in other for other in prompt.texts)


def _lost(before: _Prompt, prompt: _Prompt) -> Iterator[tuple[str, str]]:
    fewer = len(prompt.systems) < len(before.systems)
    for text in before.systems:
        kept = _holds(prompt, text) or any(other in text for other in prompt.systems)
        if fewer and not kept:
            yield "system text", text
            break
    if not before.users or prompt.summed or set(prompt.users) - set(before.users):
        return
    request = before.users[-1]
    if len(request) >= _REQUEST_CHARS_MIN and not _holds(prompt, request):
        yield "request of the user", request
