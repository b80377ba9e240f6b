"""Faults that conflicts and breakers would have stopped."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

from bench.doctor.faults import (
    ALL,
    CHAT,
    Fault,
    alone,
    first_writes,
    numbered,
    pick,
    reads,
    writes,
)
from bench.doctor.runs import Batch, Call, Run, Say
from bench.doctor.words import words_for

_SETS = re.compile(
    r"(set|update|assign|change|resize|rebook|modify|close|freeze|extend|edit|write)", re.IGNORECASE
)


def written_twice(run: Run, chance: random.Random) -> Run | None:
    """Repeat a write that succeeded, at once."""
    place = pick(writes(run), chance)
    if place is None:
        return None
    at, n, call = place
    _ = n
    return run.put(at + 1, Batch((numbered(call, chance),)))


def written_again(run: Run, chance: random.Random) -> Run | None:
    """Repeat a write that succeeded, before the answer that follows."""
    places = [w for w in writes(run) if w[0] + 2 < len(run.beats)]
    place = pick(places, chance)
    if place is None:
        return None
    at, _, call = place
    for later in range(at + 1, len(run.beats)):
        beat = run.beats[later]
        if isinstance(beat, Say) and beat.role == "assistant":
            break
    else:
        return None
    return run.put(later, Batch((numbered(call, chance),), text="Now I make the change."))


def _other(value: Any, chance: random.Random) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        if value.isdigit():
            return str(int(value) + 100)
        return chance.choice(("other", "standard", "second choice"))
    return None


def written_otherwise(run: Run, chance: random.Random) -> Run | None:
    """Set a field to one value and then, unasked, to another."""
    places = [w for w in first_writes(run) if _SETS.search(w[2].name) and "file" not in w[2].name]
    place = pick(places, chance)
    if place is None:
        return None
    at, _, call = place
    names = [k for k, v in call.args.items() if v != call.key and isinstance(v, str | int)]
    if not names:
        return None
    name = chance.choice(names)
    args = {**call.args, name: _other(call.args[name], chance)}
    result = (call.result or "").replace(str(call.args[name]), str(args[name]))
    second = replace(numbered(call, chance), args=args, result=result)
    return run.put(at + 1, Batch((second,)))


def other_unread(run: Run, chance: random.Random) -> Run | None:
    """Let the second of two agents write over what the first one wrote, as read before that."""
    _ = chance
    by_actor = [
        (at, beat) for at, beat in enumerate(run.beats) if isinstance(beat, Batch) and beat.actor
    ]
    first = next(((at, b) for at, b in by_actor if b.calls[0].writes), None)
    if first is None:
        return None
    reread = next((at for at, b in by_actor if at > first[0] and b.actor != first[1].actor), None)
    if reread is None:
        return None
    beats = list(run.beats)
    late = beats.pop(reread)
    beats.insert(first[0], late)
    return run.with_beats(*beats)


def other_never_read(run: Run, chance: random.Random) -> Run | None:
    """Let another agent write between this one's read and its write."""
    if any(isinstance(b, Batch) and b.actor for b in run.beats):
        return None
    found = []
    for at, _, call in first_writes(run):
        if any(r[0] < at and r[2].key == call.key for r in reads(run)) and alone(run, at):
            found.append((at, call))
    if not found:
        return None
    at, call = chance.choice(found)
    named = [replace(b, actor="agent") if isinstance(b, Batch) else b for b in run.beats]
    own = {k: v for k, v in call.args.items() if v == call.key}
    name = next((n for n in ("update_record", "set_status") if chance.random() < 0.5), "set_state")  # noqa: PLR2004
    second = replace(
        numbered(call, chance), name=name, args={**own, "status": "reviewed"}, result="ok"
    )
    reading = Call(name="get_record", args=own, result=call.key, key=call.key, id=f"{second.id}9")
    reading = replace(reading, id=reading.id if call.id else "")
    put = (Batch((reading,), actor="sync"), Batch((second,), actor="sync"))
    return run.with_beats(*named[:at], *put, *named[at:])


def failed_again(run: Run, chance: random.Random) -> Run | None:
    """Make the same call again and again, though it fails and nothing has changed."""
    place = pick([r for r in reads(run) if alone(run, r[0])], chance)
    if place is None:
        return None
    at, _, call = place
    why = chance.choice(words_for(run).transient)
    failed = [
        Batch((replace(numbered(call, chance), result=why, ok=False),))
        for _ in range(chance.choice((3, 4, 5)))
    ]
    return run.put(at, *failed)


def failed_talking(run: Run, chance: random.Random) -> Run | None:
    """Do the same with a word each time, and give up in the end."""
    place = pick([r for r in reads(run) if alone(run, r[0])], chance)
    if place is None:
        return None
    at, _, call = place
    why = chance.choice(words_for(run).transient)
    words = ("Let me try again.", "That did not work, once more.", "I will retry.", "Retrying.")
    failed = [
        Batch((replace(numbered(call, chance), result=why, ok=False),), text=word)
        for word in words[: chance.choice((3, 4))]
    ]
    sorry = Say("assistant", "I am sorry, the service does not answer. Please try again later.")
    return run.with_beats(*run.beats[:at], *failed, sorry)


def failed_for_good(run: Run, chance: random.Random) -> Run | None:
    """Repeat a call that was refused for good."""
    place = pick([r for r in reads(run) if alone(run, r[0])], chance)
    if place is None:
        return None
    at, _, call = place
    why = chance.choice(words_for(run).permanent)
    given = {"since": "2026-01-01"}
    one = Call(
        name=chance.choice(("get_audit_log", "list_history", "fetch_report")),
        args=given,
        result=why,
        ok=False,
        id=f"{call.id}0" if call.id else "",
    )
    failed = [Batch((numbered(one, chance),)) for _ in range(chance.choice((2, 2, 3)))]
    return run.put(at + 1, *failed)


def doubt_repeated(run: Run, chance: random.Random) -> Run | None:
    """Repeat a write whose outcome is not known."""
    place = pick([w for w in writes(run) if alone(run, w[0])], chance)
    if place is None:
        return None
    at, _, call = place
    lost = replace(
        numbered(call, chance), result=chance.choice(words_for(run).unknown), ok=False, took_s=30.0
    )
    return run.put(at, Batch((lost,)))


def failed_in_a_row(run: Run, chance: random.Random) -> Run | None:
    """Go on calling a tool that fails each time, with other arguments each time."""
    place = pick([r for r in reads(run) if alone(run, r[0])], chance)
    if place is None:
        return None
    at, _, call = place
    why = chance.choice(words_for(run).transient)
    failed = [
        Batch(
            (replace(numbered(call, chance), args={**call.args, "page": n}, result=why, ok=False),)
        )
        for n in range(1, chance.choice((4, 5)))
    ]
    return run.put(at, *failed)


def cut_off(run: Run, chance: random.Random) -> Run | None:
    """End in the middle, after a result."""
    # A hand-over is an end, too.
    places = [at for at, _, call in run.calls() if at > 1 and not call.name.startswith("transfer")]
    if not places:
        return None
    return run.with_beats(*run.beats[: chance.choice(places) + 1])


def limit_reached(run: Run, chance: random.Random) -> Run | None:
    """Go round and round until somebody else's limit ends it."""
    place = pick([r for r in reads(run) if alone(run, r[0])], chance)
    if place is None:
        return None
    at, _, call = place
    why = chance.choice(words_for(run).transient)
    rounds = [
        Batch((replace(numbered(call, chance), result=why, ok=False),))
        for _ in range(chance.choice((6, 9)))
    ]
    return replace(
        run.with_beats(*run.beats[:at], *rounds), error=chance.choice(words_for(run).limits)
    )


FAULTS = (
    Fault("written twice", "conflicts", written_twice),
    Fault("written again later", "conflicts", written_again),
    Fault("written otherwise", "conflicts", written_otherwise),
    Fault("other's write unread", "conflicts", other_unread, ("openai", "otlp")),
    Fault("other between", "conflicts", other_never_read, ("openai", "otlp")),
    Fault("same call fails on", "breakers", failed_again, ALL),
    Fault("same, with words", "breakers", failed_talking, ALL),
    Fault("permanent retried", "breakers", failed_for_good, ALL),
    Fault("doubt repeated", "breakers", doubt_repeated, ALL),
    Fault("failures in a row", "breakers", failed_in_a_row, ALL),
    Fault("limit reached", "breakers", limit_reached, CHAT),
    Fault("cut off", "breakers", cut_off, CHAT),
)
