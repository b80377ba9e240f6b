"""Faults that sequencing and parallelism would have stopped."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.doctor.faults import (
    ALL,
    SPANS,
    Fault,
    Place,
    alone,
    first_writes,
    pick,
    reads,
    said_before,
    shaped_like,
    writes,
)
from bench.doctor.runs import Batch, Call, Run, Say
from bench.doctor.words import words_for

_YES = re.compile(r"\b(yes|sure|confirm|correct|go ahead|proceed|do it)\b", re.IGNORECASE)


def _read_first(run: Run) -> list[tuple[Place, list[Place]]]:
    """Return first writes with the reads of the same resource before them."""
    found = []
    for place in first_writes(run):
        before = [r for r in reads(run) if r[0] < place[0] and r[2].key == place[2].key]
        if before:
            found.append((place, before))
    return found


def read_dropped(run: Run, chance: random.Random) -> Run | None:
    """Write to a record that was never read."""
    found = _read_first(run)
    if not found:
        return None
    _, before = chance.choice(found)
    key = before[0][2].key
    gone = {(at, n) for at, n, call in run.calls() if not call.writes and call.key == key}
    first = next(at for at, _, call in run.calls() if call.writes and call.key == key)
    return run.without({(at, n) for at, n in gone if at < first})


def write_moved(run: Run, chance: random.Random) -> Run | None:
    """Write first, read after."""
    found = [(w, r) for w, r in _read_first(run) if alone(run, w[0])]
    if not found:
        return None
    (at, _, call), before = chance.choice(found)
    # An attempt that failed before it would be a write before the read, too, and stays behind.
    first = min(place[0] for place in run.calls() if place[2].key == call.key)
    _ = before
    beats = list(run.beats)
    write = beats.pop(at)
    beats.insert(first, write)
    return run.with_beats(*beats)


def _with_id(call: Call, old: str, new: str, result: str | None = None) -> Call:
    args = json.loads(json.dumps(call.args).replace(json.dumps(old), json.dumps(new)))
    text = (call.result or "").replace(old, new) if result is None else result
    return replace(call, args=args, result=text, ok=result is None, key=new)


def unknown_id_written(run: Run, chance: random.Random) -> Run | None:
    """Write to an id that nobody ever named."""
    place = pick([w for w in first_writes(run) if w[2].key in w[2].args.values()], chance)
    if place is None:
        return None
    at, n, call = place
    if "/" in call.key or not any(sign.isdigit() for sign in call.key):
        return None
    new = shaped_like(call.key, chance)
    return run.changed(at, n, _with_id(call, call.key, new))


def unknown_id_read(run: Run, chance: random.Random) -> Run | None:
    """Guess an id, fail, and go on with the right one."""
    found = [r for r in reads(run) if r[2].key in r[2].args.values() and alone(run, r[0])]
    place = pick([r for r in found if any(s.isdigit() for s in r[2].key)], chance)
    if place is None:
        return None
    at, _, call = place
    new = shaped_like(call.key, chance)
    why = chance.choice(("Error: not found", f"Error: there is no {new}", '{"error": "not_found"}'))
    wrong = _with_id(call, call.key, new, why)
    return run.put(at, Batch((replace(wrong, id=f"{call.id}x" if call.id else ""),)))


def _consents(run: Run) -> list[int]:
    """Return where a write stands right after an offer and a yes."""
    found = []
    for at, _, call in writes(run):
        if at < 3 or not call.writes or not run.confirms:  # noqa: PLR2004
            continue
        yes, offer = run.beats[at - 1], run.beats[at - 2]
        if (
            isinstance(yes, Say)
            and isinstance(offer, Say)
            and yes.role == "user"
            and offer.role == "assistant"
            and _YES.search(yes.text)
            and not any(
                isinstance(b, Batch) and any(c.writes for c in b.calls) for b in run.beats[:at]
            )
        ):
            found.append(at)
    return found


def consent_dropped(run: Run, chance: random.Random) -> Run | None:
    """Change something without having asked."""
    found = _consents(run)
    if not found:
        return None
    at = chance.choice(found)
    said = [b.text for b in run.beats[1 : at - 2] if isinstance(b, Say) and b.role == "user"]
    if any(_YES.search(text) for text in said[1:]):
        return None
    return run.with_beats(*run.beats[: at - 2], *run.beats[at:])


def consent_refused(run: Run, chance: random.Random) -> Run | None:
    """Change something though the user did not say yes."""
    found = _consents(run)
    if not found:
        return None
    at = chance.choice(found)
    beats = list(run.beats)
    beats[at - 1] = Say("user", chance.choice(words_for(run).noes))
    return run.with_beats(*beats)


def _uses(run: Run) -> list[tuple[Place, Place]]:
    """Return pairs of calls: what brought up a value, and the first one that was given it."""
    found = []
    calls = list(run.calls())
    for later in calls:
        for value in later[2].args.values():
            if not isinstance(value, str) or len(value) < 4 or said_before(run, later[0], value):  # noqa: PLR2004
                continue
            makers = [c for c in calls if c[0] < later[0] and value in (c[2].result or "")]
            given = any(c[0] < later[0] and value in c[2].args.values() for c in calls)
            if len(makers) == 1 and not given and alone(run, makers[0][0]) and alone(run, later[0]):
                found.append((makers[0], later))
    return found


def used_first(run: Run, chance: random.Random) -> Run | None:
    """Use a value before the call that brings it up."""
    found = _uses(run)
    if not found:
        return None
    maker, later = chance.choice(found)
    beats = list(run.beats)
    beats[maker[0]], beats[later[0]] = beats[later[0]], beats[maker[0]]
    return run.with_beats(*beats)


def used_beside(run: Run, chance: random.Random) -> Run | None:
    """Propose a call together with the one whose result it needs."""
    found = _uses(run)
    if not found:
        return None
    maker, later = chance.choice(found)
    beats = list(run.beats)
    beats[maker[0]] = Batch((maker[2], later[2]))
    del beats[later[0]]
    return run.with_beats(*beats)


def used_early(run: Run, chance: random.Random) -> Run | None:
    """Begin a call before the one that it needs has ended."""
    found = _uses(run)
    if not found:
        return None
    maker, later = chance.choice(found)
    if not later[2].id:
        return None
    slow = run.changed(maker[0], maker[1], replace(maker[2], took_s=3.0))
    return replace(slow, spans={"overlap": (maker[2].id, later[2].id)})


def _pairs(run: Run) -> list[tuple[Place, Place]]:
    """Return pairs of succeeded writes to one resource that set different things."""
    each = [w for w in writes(run) if w[2].key]
    return [
        (one, two)
        for n, one in enumerate(each)
        for two in each[n + 1 : n + 2]
        if one[2].key == two[2].key
        and one[2].name != two[2].name
        and alone(run, one[0])
        and alone(run, two[0])
    ]


def writes_joined(run: Run, chance: random.Random) -> Run | None:
    """Propose two writes to one record together."""
    found = _pairs(run)
    if not found:
        return None
    one, two = chance.choice(found)
    beats = list(run.beats)
    beats[two[0]] = Batch((one[2], two[2]))
    del beats[one[0]]
    return run.with_beats(*beats)


def writes_overlapping(run: Run, chance: random.Random) -> Run | None:
    """Begin a write to a record while another one runs."""
    found = _pairs(run)
    if not found:
        return None
    one, two = chance.choice(found)
    if not two[2].id:
        return None
    slow = run.changed(one[0], one[1], replace(one[2], took_s=2.5))
    return replace(slow, spans={"overlap": (one[2].id, two[2].id)})


def agents_at_once(run: Run, chance: random.Random) -> Run | None:
    """Let two agents, each of which has read the record, write to it at the same time."""
    _ = chance
    acts = [
        (at, beat) for at, beat in enumerate(run.beats) if isinstance(beat, Batch) and beat.actor
    ]
    found = [(at, beat) for at, beat in acts if beat.calls[0].writes]
    if len(found) != 2 or found[0][1].actor == found[1][1].actor:  # noqa: PLR2004
        return None
    (first, one), (_, two) = found
    ids = (one.calls[0].id, two.calls[0].id)
    slow = replace(one, calls=(replace(one.calls[0], took_s=2.5),))
    read = [beat for at, beat in acts if at > first and not beat.calls[0].writes]
    rest = [b for b in run.beats[first + 1 :] if b not in (two, *read)]
    made = run.with_beats(*run.beats[:first], *read, slow, two, *rest)
    return replace(made, spans={"overlap": ids})


def verification_dropped(run: Run, chance: random.Random) -> Run | None:
    """Leave out what the system prompt says must be called before any change."""
    _ = chance
    first = run.beats[0]
    if not isinstance(first, Say):
        return None
    gone = {(at, n) for at, n, call in run.calls() if f"`{call.name}`" in first.text}
    return run.without(gone) if gone else None


_BESIDE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tickets.set_priority": ("tickets.add_tag", {"tag": "vip"}),
    "tickets.close": ("tickets.add_tag", {"tag": "done"}),
    "tickets.reply": ("tickets.set_queue", {"queue": "billing"}),
    "mcp__calendar__update_event": ("mcp__calendar__set_room", {"room": "Oak"}),
    "mcp__calendar__invite": ("mcp__calendar__set_room", {"room": "Oak"}),
    "resize_instance": ("update_instance_label", {"label": "large"}),
    "restart_instance": ("update_instance_label", {"label": "restarted"}),
    "tag_instance": ("set_instance_schedule", {"schedule": "nights off"}),
    "edit_file": ("edit_file", {"old": "import os", "new": "import sys"}),
    "update_document": ("set_document_title", {"title": "The plan"}),
    "cancel_reservation": ("update_reservation_baggages", {"total_baggages": 2}),
    "modify_pending_order_items": ("modify_pending_order_address", {"city": "Ely"}),
    "modify_pending_order_address": ("modify_pending_order_payment", {"payment_method_id": "x"}),
}


def write_beside(run: Run, chance: random.Random) -> Run | None:
    """Propose a second write together with a write to the same record."""
    place = pick(
        [w for w in first_writes(run) if w[2].name in _BESIDE and alone(run, w[0])], chance
    )
    if place is None:
        return None
    at, _, call = place
    tool, given = _BESIDE[call.name]
    own = {name: value for name, value in call.args.items() if value == call.key}
    if call.name.startswith("modify_pending_order") and "address" in call.name:
        own = {**own}
        method = next((v for v in call.args.values() if "payment" in str(v)), None)
        if method is None:
            return None
    second = replace(call, name=tool, args={**own, **given}, id=f"{call.id}b" if call.id else "")
    return run.with_beats(*run.beats[:at], Batch((call, second)), *run.beats[at + 1 :])


def write_split(run: Run, chance: random.Random) -> Run | None:
    """Set two things of a record by two calls of one tool in one batch."""
    places = [w for w in first_writes(run) if alone(run, w[0]) and len(w[2].args) > 2]  # noqa: PLR2004
    place = pick([w for w in places if w[2].key in w[2].args.values()], chance)
    if place is None:
        return None
    at, _, call = place
    own = {name: value for name, value in call.args.items() if value == call.key}
    rest = [name for name in call.args if name not in own]
    half = len(rest) // 2
    one = replace(call, args={**own, **{n: call.args[n] for n in rest[:half]}})
    two = replace(
        call,
        args={**own, **{n: call.args[n] for n in rest[half:]}},
        id=f"{call.id}b" if call.id else "",
    )
    return run.with_beats(*run.beats[:at], Batch((one, two)), *run.beats[at + 1 :])


FAULTS = (
    Fault("read dropped", "sequencing", read_dropped),
    Fault("write moved before read", "sequencing", write_moved),
    Fault("unknown id written", "sequencing", unknown_id_written),
    Fault("unknown id read", "sequencing", unknown_id_read),
    Fault("consent dropped", "sequencing", consent_dropped),
    Fault("consent refused", "sequencing", consent_refused),
    Fault("used before made", "sequencing", used_first),
    Fault("used beside maker", "sequencing", used_beside),
    Fault("used before end", "sequencing", used_early, SPANS),
    Fault("verification dropped", "sequencing", verification_dropped),
    Fault("two writes joined", "parallelism", writes_joined, ALL),
    Fault("write put beside", "parallelism", write_beside, ALL),
    Fault("write split in two", "parallelism", write_split, ALL),
    Fault("agents at once", "parallelism", agents_at_once, SPANS),
    Fault("writes overlapping", "parallelism", writes_overlapping, SPANS),
)
