"""What people say about a turn that nobody runs: who waits for a word, and what it may be.

Keeps: the first word counts; the same word again changes nothing.
"""

from __future__ import annotations

from undercroft.engine.approving import in_order, question
from undercroft.engine.codec import decode
from undercroft.engine.memo import Memo, Record, recall
from undercroft.errors import DecisionError, InputError
from undercroft.layers.sequencing.approval import binding
from undercroft.model.event import (
    ApprovalAsked,
    ApprovalDecided,
    DoubtSettled,
    TurnDelivered,
    TurnEnded,
    decode_frames,
    encode_frame,
)
from undercroft.model.outcome import TurnStatus, Waiting
from undercroft.model.step import step_id

# Of a fingerprint, this much may stand for the whole.
SEEN_CHARS_MIN = 8


def only_waits(memo: Memo) -> bool:
    """Whether the turn is parked for approvals, and nobody has given one since."""
    if memo.parked is None or memo.parked.status is not TurnStatus.WAITING:
        return False
    return all(memo.records[n].waiting for n in memo.parked.steps)


def undecided(memo: Memo) -> bool:
    """Whether the turn is parked, and nobody has said a word on any step that it waits for."""
    return memo.parked is not None and all(_open(memo.records[n]) for n in memo.parked.steps)


def _open(record: Record) -> bool:
    said = record.settled is not None and record.settled.how == "person"
    return record.waiting or (record.in_doubt and not said)


def waiting(memo: Memo) -> tuple[Waiting, ...]:
    """Return the steps that wait for approval."""
    return in_order(
        question(record.asked, record.voided)
        for record in memo.records.values()
        if record.waiting and record.asked is not None
    )


def doubts(memo: Memo) -> tuple[Waiting, ...]:
    """Return the writes of which nobody knows whether they happened."""
    return tuple(
        Waiting(_id(record), record.name, decode(record.started.args), record.started.at)
        for _, record in sorted(memo.records.items())
        if record.in_doubt and record.started is not None
    )


def check_name(by: str) -> None:
    """Raise if nobody is named.

    Raises:
        InputError: `by` is empty.
    """
    if not by:
        raise InputError("by", "it is empty", "Say who decides: by='ada'.")


def approval(  # noqa: PLR0913  a word has as many parts
    turn_id: str,
    frames: list[bytes],
    step: str | None,
    *,
    granted: bool,
    by: str,
    at: float,
    reason: str,
    seen: str | None,
) -> bytes | None:
    """Return the frame that decides a step, or None where the same was said before.

    Raises:
        DecisionError: Nothing of that name waits, it was decided otherwise, or what was
            `seen` is not what is asked.
    """
    record = _asked(turn_id, recall(decode_frames(frames)), step)
    said = record.decided
    if seen is not None and not (record.asked is not None and _same(seen, record.asked)):
        raise DecisionError(
            turn_id,
            f"what is asked about {_id(record)} is not what you saw",
            "Look at it again: its arguments, or a record that it rests on, changed since.",
        )
    if said is None:
        return encode_frame([ApprovalDecided(record.n, granted, by, at, reason)])
    if said.granted == granted:
        return None
    raise DecisionError(
        turn_id,
        f"step {_id(record)} was {'approved' if said.granted else 'rejected'} by {said.by} already",
        "The first word counts; start a new turn to decide anew.",
    )


def _same(seen: str, asked: ApprovalAsked) -> bool:
    """Whether `seen`, whole or its beginning, is the fingerprint of what is asked."""
    return len(seen) >= SEEN_CHARS_MIN and binding(asked).hex().startswith(seen)


def settlement(
    turn_id: str, frames: list[bytes], step: str | None, word: DoubtSettled
) -> bytes | None:
    """Return the frame that settles a doubt, or None where the same was said before.

    Args:
        turn_id: The turn.
        frames: Its journal.
        step: Id or name of the step; None for the only one.
        word: What is said; its number is filled in.

    Raises:
        DecisionError: Nothing of that name is in doubt, or it was settled otherwise.
    """
    record = in_doubt(turn_id, recall(decode_frames(frames)), step)
    said = record.settled
    if said is None or said.how != "person":
        named = DoubtSettled(record.n, word.applied, "person", word.by, word.at, word.value)
        return encode_frame([named])
    if said.applied == word.applied:
        return None
    raise DecisionError(
        turn_id, f"{said.by} said otherwise about {_id(record)}", "The first word counts."
    )


def delivery(turn_id: str, frames: list[bytes], word: TurnDelivered) -> bytes | None:
    """Return the frame that says whether the user was reached, or None where it stands there.

    Raises:
        DecisionError: The turn has not ended.
    """
    events = decode_frames(frames)
    if not any(isinstance(event, TurnEnded) for event in events):
        raise DecisionError(
            turn_id, "it has not ended, so there is nothing to deliver", "Say it once it has."
        )
    said = next((e for e in reversed(events) if isinstance(e, TurnDelivered)), None)
    if said is not None and (said.status, said.detail) == (word.status, word.detail):
        return None
    return encode_frame([word])


def in_doubt(turn_id: str, memo: Memo, step: str | None) -> Record:
    """Return the step that a person may settle, or has settled.

    Raises:
        DecisionError: There is not exactly one of that name.
    """
    parked = memo.parked is not None and memo.parked.status is TurnStatus.IN_DOUBT
    open_ones = [r for r in memo.records.values() if r.in_doubt and parked]
    settled = [r for r in memo.records.values() if r.settled and r.settled.how == "person"]
    for records in (open_ones, settled):
        found = [r for r in records if step in (None, r.name, _id(r))]
        if len(found) == 1:
            return found[0]
    raise DecisionError(
        turn_id,
        f"no step {step!r} of it is in doubt" if step else "not exactly one step is in doubt",
        f"In doubt: {_ids(open_ones)}. Where its process died, resume it first.",
    )


def _asked(turn_id: str, memo: Memo, step: str | None) -> Record:
    asked = [r for r in memo.records.values() if r.asked is not None]
    open_ones = [r for r in asked if r.waiting]
    for records in (open_ones, asked):
        found = [r for r in records if step == _id(r)] or [
            r for r in records if step in (None, r.name)
        ]
        if len(found) == 1:
            return found[0]
    raise DecisionError(
        turn_id,
        f"no step {step!r} of it waits" if step else "not exactly one step of it waits",
        f"Waiting: {_ids(open_ones)}.",
    )


def _id(record: Record) -> str:
    return step_id(record.name, record.n)


def _ids(records: list[Record]) -> str:
    return ", ".join(_id(record) for record in records) or "none"
