"""Faults that context and observability would have stopped."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from bench.doctor.faults import (
    ALL,
    CHAT,
    SPANS,
    Fault,
    alone,
    numbered,
    pick,
    reads,
    writes,
)
from bench.doctor.runs import Batch, Run, Say
from bench.doctor.words import words_for

_FACT = re.compile(
    r"(#W\d{5,}|\b[\w.]+@example\.com\b|\b[A-Z0-9]{6}\b(?=[^a-z]*$)|\b[a-z]+_[a-z]+_\d{4}\b)"
)
_KINDS = ((re.compile(r"#W"), "order number"), (re.compile(r"@"), "e-mail address"))
_SUCCESS = re.compile(
    r"\b(has been|have been|was|is now|are now|successfully|now in|I have|Fixed|done)\b",
    re.IGNORECASE,
)


def read_again(run: Run, chance: random.Random) -> Run | None:
    """Read the same again, at once."""
    place = pick([r for r in reads(run) if alone(run, r[0])], chance)
    if place is None or "status" in place[2].name:
        return None
    return run.put(place[0] + 1, Batch((numbered(place[2], chance),)))


def read_again_later(run: Run, chance: random.Random) -> Run | None:
    """Read the same again after other reads, with no write and no word of the user between."""
    found = []
    for at, _, call in reads(run):
        end = at + 1
        while end < len(run.beats):
            beat = run.beats[end]
            if isinstance(beat, Say) or any(c.writes or not c.ok for c in beat.calls):
                break
            end += 1
        if end > at + 1 and "status" not in call.name and call.name != "run_shell":
            found.append((end, call))
    if not found:
        return None
    end, call = chance.choice(found)
    return run.put(end, Batch((numbered(call, chance),), text="Let me look that up."))


def asked_again(run: Run, chance: random.Random) -> Run | None:
    """Ask the user for what the user has said."""
    found = []
    for at, beat in enumerate(run.beats):
        if isinstance(beat, Say) and beat.role == "user":
            found += [(at, match.group()) for match in _FACT.finditer(beat.text)]
    if not found:
        return None
    at, fact = chance.choice(found)
    # Not after a failure: who could not find something may well ask for it once more.
    later = next(
        (n for n, _, c in run.calls() if n > at and c.ok and not c.name.startswith("transfer")),
        None,
    )
    if later is None:
        return None
    kind = next((name for pattern, name in _KINDS if pattern.search(fact)), None)
    if kind is None:
        kind = "user id" if "_" in fact else "reservation number"
    asks = (
        f"Could you please tell me your {kind}?",
        f"To go on, I need your {kind}. What is it?",
        f"Please provide the {kind} so that I can help you.",
    )
    tells = (f"I told you: {fact}.", f"It is {fact}, as I said.", fact)
    put = (Say("assistant", chance.choice(asks)), Say("user", chance.choice(tells)))
    return run.put(later + 1, *put)


def result_cut(run: Run, chance: random.Random) -> Run | None:
    """Change a record after a read of it came back cut."""
    found = []
    for at, n, call in reads(run):
        used = [w for w in writes(run) if w[0] > at and w[2].key == call.key and call.key]
        if used and call.result and len(call.result) > 40:  # noqa: PLR2004
            found.append((at, n, call))
    place = pick(found, chance)
    if place is None:
        return None
    at, n, call = place
    text = (call.result or "")[: max(30, len(call.result or "") // 2)] + chance.choice(
        words_for(run).cut
    )
    return run.changed(at, n, replace(call, result=text))


def overflow_told(run: Run, chance: random.Random) -> Run | None:
    """End with the error of a prompt that was too long, told as if it were the answer."""
    places = [at for at, _, _ in run.calls() if at > 1]
    if not places:
        return None
    at = chance.choice(places)
    return run.with_beats(
        *run.beats[: at + 1], Say("assistant", chance.choice(words_for(run).too_long))
    )


def request_forgotten(run: Run, chance: random.Random) -> Run | None:
    """Ask the user to say once more what it was that they wanted."""
    wish = next((b.text for b in run.beats if isinstance(b, Say) and b.role == "user"), "")
    later = [at for at, _, call in run.calls() if call.ok and not call.name.startswith("transfer")]
    if not later or len(wish) < 20:  # noqa: PLR2004
        return None
    put = (
        Say("assistant", chance.choice(words_for(run).forgot)),
        Say("user", f"As I said: {wish}"),
    )
    return run.put(chance.choice(later) + 1, *put)


def overflow_ends(run: Run, chance: random.Random) -> Run | None:
    """End with a prompt that was too long."""
    places = [at for at, _, _ in run.calls() if at > 1]
    if not places:
        return None
    at = chance.choice(places)
    why = chance.choice(words_for(run).too_long)
    return replace(run.with_beats(*run.beats[: at + 1]), error=why)


def _asks(run: Run) -> int:
    return sum(isinstance(b, Batch) or b.role == "assistant" for b in run.beats)


def overflow(run: Run, chance: random.Random) -> Run | None:
    """Send a prompt that does not fit."""
    asked = _asks(run)
    return replace(run, spans={"overflow": chance.randrange(1, asked)}) if asked > 1 else None


def forgets(run: Run, chance: random.Random) -> Run | None:
    """Leave the system message out of later prompts."""
    asked = _asks(run)
    first = run.beats[0]
    if asked < 3 or not isinstance(first, Say) or first.role != "system":  # noqa: PLR2004
        return None
    return replace(run, spans={"forgets": chance.randrange(1, asked)})


def full(run: Run, chance: random.Random) -> Run | None:
    """Fill the window almost wholly."""
    asked = _asks(run)
    return replace(run, spans={"full": chance.randrange(1, asked)}) if asked > 1 else None


def result_dropped(run: Run, chance: random.Random) -> Run | None:
    """Lose the result of a call."""
    calls = list(run.calls())
    if len(calls) < 2:  # noqa: PLR2004
        return None
    at, n, call = chance.choice(calls)
    return run.changed(at, n, replace(call, result=None))


def status_dropped(run: Run, chance: random.Random) -> Run | None:
    """Lose the status of a span."""
    calls = list(run.calls())
    return (
        replace(run, spans={"no_status": (chance.choice(calls)[2].id,)}) if len(calls) > 1 else None
    )


def time_dropped(run: Run, chance: random.Random) -> Run | None:
    """Lose the times of a span."""
    calls = list(run.calls())
    return (
        replace(run, spans={"no_time": (chance.choice(calls)[2].id,)}) if len(calls) > 1 else None
    )


def prompt_dropped(run: Run, chance: random.Random) -> Run | None:
    """Lose a prompt."""
    asked = _asks(run)
    return replace(run, spans={"no_prompt": chance.randrange(asked)}) if asked > 1 else None


def _told(run: Run) -> list[tuple[int, int, int]]:
    """Return writes whose success the agent tells the user afterwards, and where."""
    found = []
    each = writes(run)
    for at, n, call in each:
        later = [w for w in each if w[0] > at and (w[2].key == call.key or w[2].name == call.name)]
        beat = run.beats[at + 1] if at + 1 < len(run.beats) else None
        if (
            not later
            and isinstance(beat, Say)
            and beat.role == "assistant"
            and _SUCCESS.search(beat.text)
        ):
            found.append((at, n, at + 1))
    return found


def failure_told_as_success(run: Run, chance: random.Random) -> Run | None:
    """Tell the user that it is done, after the write failed."""
    found = _told(run)
    if not found:
        return None
    at, n, _ = chance.choice(found)
    failed = replace(run.batch(at).calls[n], result=chance.choice(words_for(run).denied), ok=False)
    return run.changed(at, n, failed)


def nothing_told_as_success(run: Run, chance: random.Random) -> Run | None:
    """Tell the user that it is done, though nothing was written at all."""
    found = _told(run)
    each = {(at, n) for at, n, call in run.calls() if call.writes}
    if not found or len({at for at, _ in each}) != 1:
        return None
    _ = chance
    return run.without(each)


def nothing_recorded(run: Run, chance: random.Random) -> Run | None:
    """Record an error and nothing else."""
    why = chance.choice(
        ("KeyError: 'messages'", "RuntimeError: worker died", "openai.AuthenticationError: 401")
    )
    return replace(run.with_beats(), error=why)


FAULTS = (
    Fault("read again at once", "context", read_again),
    Fault("read again later", "context", read_again_later),
    Fault("asked again", "context", asked_again),
    Fault("truncated result used", "context", result_cut),
    Fault("request forgotten", "context", request_forgotten),
    Fault("overflow told", "context", overflow_told, CHAT),
    Fault("overflow ends it", "context", overflow_ends, CHAT),
    Fault("overflow", "context", overflow, SPANS),
    Fault("system message gone", "context", forgets, SPANS),
    Fault("window full", "context", full, SPANS),
    Fault("result dropped", "observability", result_dropped, ALL),
    Fault("status dropped", "observability", status_dropped, SPANS),
    Fault("time dropped", "observability", time_dropped, SPANS),
    Fault("prompt dropped", "observability", prompt_dropped, SPANS),
    Fault("failure told as done", "observability", failure_told_as_success),
    Fault("nothing told as done", "observability", nothing_told_as_success),
    Fault("nothing recorded", "observability", nothing_recorded, ALL),
)
