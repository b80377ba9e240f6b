"""A turn's events add up to its record, whatever happened and wherever they end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.layers.observability.answers import QUESTIONS, answer
from undercroft.layers.observability.state import fold
from undercroft.model.event import (
    NIL,
    AnyEvent,
    ApprovalAsked,
    ApprovalDecided,
    DoubtSettled,
    StepEnded,
    StepRetried,
    StepStarted,
    TurnEnded,
    TurnParked,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    decode_frames,
    encode_frame,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Failure, Refusal, StepStatus
from undercroft.model.trace import Decision, Life, Trace


def raw(value: Any) -> msgspec.Raw:
    """Return a value as events carry it."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


LOST = Failure("ValueError", "bad")
REFUSAL = Refusal("layer.rule", "No.", "Do this.")
SETTLED = {True: "applied", False: "not applied", None: "repeated"}


@dataclass
class Known:
    """A step as whoever ran the turn remembers it."""

    name: str
    status: StepStatus
    changes: bool = False
    attempts: int = 0
    value: Any = None
    error: Failure | None = None
    refusal: Refusal | None = None
    retries: int = 0
    words: list[str] = field(default_factory=list)

    @property
    def under_way(self) -> bool:
        """Whether it began and nobody knows of its end."""
        return self.status is StepStatus.RUNNING


@dataclass
class Turn:
    """A turn as it happens, kept both as events and as what it remembers."""

    events: list[AnyEvent] = field(default_factory=list)
    steps: dict[int, Known] = field(default_factory=dict)
    status: TurnStatus = TurnStatus.RUNNING
    lives: list[str] = field(default_factory=lambda: ["running"])
    told: Any = None
    at: float = 100.0

    def tick(self) -> float:
        """Return the time, a second later than the last."""
        self.at += 1.0
        return self.at

    def put(self, event: AnyEvent) -> None:
        """Write an event."""
        self.events.append(event)

    def where(self, *statuses: StepStatus) -> list[int]:
        """Return the steps that stand so."""
        return [n for n, known in self.steps.items() if known.status in statuses]


Draw = st.DrawFn


def begin(draw: Draw, turn: Turn, n: int) -> None:
    """A step begins, for the first time or again."""
    known = turn.steps[n]
    known.attempts += 1
    known.status = StepStatus.RUNNING
    causes = tuple(draw(st.lists(st.sampled_from(turn.where(StepStatus.OK) or [n]), max_size=2)))
    turn.put(
        StepStarted(
            n, known.name, "tool", turn.tick(), known.changes, causes=causes, args=raw({"n": n})
        )
    )


def new_step(draw: Draw, turn: Turn) -> None:
    """A new step begins."""
    n = len(turn.steps) + 1
    turn.steps[n] = Known(f"work{n}", StepStatus.RUNNING, draw(st.booleans()))
    begin(draw, turn, n)


def new_refusal(draw: Draw, turn: Turn) -> None:
    """A proposed call is refused, or a step skipped, before it began."""
    n = len(turn.steps) + 1
    status = draw(st.sampled_from([StepStatus.REFUSED, StepStatus.SKIPPED]))
    refusal = REFUSAL if status is StepStatus.REFUSED else None
    turn.steps[n] = Known(f"work{n}", status, refusal=refusal)
    turn.put(
        StepEnded(n, status, 0.0, refusal=refusal, name=f"work{n}", args=raw({}), at=turn.tick())
    )


def retry(draw: Draw, turn: Turn, n: int) -> None:
    """An attempt fails, and another follows."""
    known = turn.steps[n]
    turn.put(StepRetried(n, known.attempts, turn.tick(), draw(st.floats(0, 9)), LOST))
    known.attempts += 1
    known.retries += 1


def end(draw: Draw, turn: Turn, n: int) -> None:
    """A step ends."""
    known = turn.steps[n]
    if draw(st.booleans()):
        known.status, known.value = StepStatus.OK, {"of": n}
        turn.put(StepEnded(n, StepStatus.OK, 0.5, raw(known.value)))
    else:
        known.status, known.error = StepStatus.FAILED, LOST
        turn.put(StepEnded(n, StepStatus.FAILED, 0.5, error=LOST))


def ask(_draw: Draw, turn: Turn) -> None:
    """A step asks a person."""
    n = len(turn.steps) + 1
    turn.steps[n] = Known(f"ask{n}", StepStatus.WAITING)
    turn.put(ApprovalAsked(n, f"ask{n}", turn.tick(), b"fp", raw({"n": n})))


def decide(draw: Draw, turn: Turn, n: int) -> None:
    """A person says yes or no, while nobody runs the turn; now it only waits for a process."""
    granted = draw(st.booleans())
    turn.status = TurnStatus.STOPPED
    turn.steps[n].words.append("approved" if granted else "rejected")
    turn.put(ApprovalDecided(n, granted, "ada", turn.tick(), "because"))


def settle(draw: Draw, turn: Turn, n: int) -> None:
    """A doubt is settled; what was not applied is done again."""
    known = turn.steps[n]
    applied = draw(st.sampled_from([True, False, None]))
    known.words.append(SETTLED[applied])
    turn.put(
        DoubtSettled(n, applied, "person", "ada", turn.tick(), raw("found") if applied else NIL)
    )
    if applied:
        known.status, known.value = StepStatus.OK, "found"
    else:
        begin(draw, turn, n)


def leave(draw: Draw, turn: Turn) -> None:
    """The turn's life ends: parked, stopped, or killed without a word."""
    doubts = [n for n in turn.where(StepStatus.RUNNING) if turn.steps[n].changes]
    waiting = [n for n in turn.where(StepStatus.WAITING) if not turn.steps[n].words]
    ways = ["killed", "stopped"]
    if doubts or waiting:
        ways.append("parked")
    way = draw(st.sampled_from(ways))
    # Until somebody comes back the journal cannot know of a killed life that it is over.
    turn.lives[-1] = "running" if way == "killed" else way
    if way == "stopped":
        turn.status = TurnStatus.STOPPED
        turn.put(TurnStopped("the runtime was closed", turn.tick()))
    elif way == "parked":
        turn.status = TurnStatus.IN_DOUBT if doubts else TurnStatus.WAITING
        turn.put(TurnParked(turn.status, tuple(doubts or waiting), turn.tick()))
        for n in doubts:
            turn.steps[n].status = StepStatus.IN_DOUBT
        if draw(st.booleans()):
            for n in waiting:
                decide(draw, turn, n)


def come_back(draw: Draw, turn: Turn) -> None:
    """Another process takes the turn up."""
    turn.put(TurnResumed(len(turn.lives) + 1, turn.tick()))
    if turn.lives[-1] == "running":
        turn.lives[-1] = "killed"
    turn.lives.append("running")
    turn.status = TurnStatus.RUNNING
    for n in turn.where(StepStatus.WAITING):
        if turn.steps[n].words == ["approved"]:
            begin(draw, turn, n)
        elif turn.steps[n].words == ["rejected"]:
            turn.steps[n].status, turn.steps[n].refusal = StepStatus.REFUSED, REFUSAL
            turn.put(StepEnded(n, StepStatus.REFUSED, 0.0, refusal=REFUSAL))
    for n in turn.where(StepStatus.IN_DOUBT):
        settle(draw, turn, n)
    for n in turn.where(StepStatus.RUNNING):
        if not turn.steps[n].changes and draw(st.booleans()):
            begin(draw, turn, n)


def finish(draw: Draw, turn: Turn) -> None:
    """The turn is over."""
    done = turn.where(StepStatus.OK)
    turn.lives[-1] = "ended"
    how = draw(st.sampled_from(["failed", "value", "step"]))
    if how == "failed":
        turn.status = TurnStatus.FAILED
        turn.put(TurnEnded(turn.status, turn.tick(), error=LOST))
    elif how == "step" and done:
        n = draw(st.sampled_from(done))
        turn.status, turn.told = TurnStatus.DEGRADED, turn.steps[n].value
        turn.put(TurnEnded(turn.status, turn.tick(), value_of=n, missing=("extra",)))
    else:
        turn.status, turn.told = TurnStatus.DONE, "all is well"
        turn.put(TurnEnded(turn.status, turn.tick(), raw("all is well")))


@st.composite
def turns(draw: Draw) -> Turn:
    """Draw a turn: steps that begin, fail and end, over several lives, finished or not."""
    turn = Turn()
    turn.put(
        TurnStarted(
            "t-1", "handler", "shop:assist", b"", raw({"message": "hi"}), "s-1", turn.tick()
        )
    )
    for _ in range(draw(st.integers(0, 3))):
        live(draw, turn)
        if not draw(st.booleans()):
            return turn
        leave(draw, turn)
        if not draw(st.booleans()):
            return turn
        come_back(draw, turn)
    live(draw, turn)
    if not turn.where(StepStatus.RUNNING, StepStatus.WAITING) and draw(st.booleans()):
        finish(draw, turn)
    return turn


def live(draw: Draw, turn: Turn) -> None:
    """Let a few things happen."""
    for goes_on_too in draw(st.lists(st.booleans(), max_size=5)):
        running = turn.where(StepStatus.RUNNING)
        if running and goes_on_too:
            goes_on = draw(st.sampled_from([retry, end]))
            goes_on(draw, turn, draw(st.sampled_from(running)))
        else:
            comes_up = draw(st.sampled_from([new_step, new_refusal, ask]))
            comes_up(draw, turn)


def folded(events: list[AnyEvent]) -> Trace:
    """Return the record that events add up to."""
    trace = fold(events)
    assert trace is not None
    return trace


@given(turns())
def test_the_record_is_what_happened(turn: Turn) -> None:
    """Steps, attempts, words of people, lives and the outcome are as whoever ran it knows."""
    trace = folded(turn.events)
    assert (trace.turn_id, trace.kind, trace.target) == ("t-1", "handler", "shop:assist")
    assert (trace.session, trace.input) == ("s-1", {"message": "hi"})
    assert trace.status is turn.status
    assert trace.delivered == turn.told
    assert [life.ended for life in trace.lives] == turn.lives
    assert [step.n for step in trace.steps] == sorted(turn.steps)
    for step in trace.steps:
        known = turn.steps[step.n]
        assert step.step_id == f"{known.name}.{step.n}"
        assert (step.name, step.status) == (known.name, known.status)
        assert (step.attempts, len(step.retries)) == (known.attempts, known.retries)
        assert [decision.what for decision in step.decisions] == known.words
        assert step.value == known.value
        assert (step.error, step.refusal) == (known.error, known.refusal)
        assert set(step.causes) <= {s.step_id for s in trace.steps}


@given(turns())
def test_times_are_those_of_the_journal(turn: Turn) -> None:
    """Lives follow each other; what has no end in the journal has none in the record."""
    trace = folded(turn.events)
    assert trace.began_at == trace.lives[0].began_at == 101.0
    assert trace.ended_at == trace.lives[-1].ended_at
    times = [at for life in trace.lives for at in (life.began_at, life.ended_at) if at is not None]
    assert times == sorted(times)
    for life in trace.lives:
        assert (life.ended_at is None) == (life.ended in {"killed", "running"})
    for step in trace.steps:
        assert (step.took_s is not None) >= step.status.value.startswith(("fail", "refus", "skip"))
        assert step.began_at is not None


@given(turns(), st.data())
def test_a_journal_may_end_anywhere(turn: Turn, data: st.DataObject) -> None:
    """Every beginning of a turn's journal is a record, and later events only add to it."""
    cut = data.draw(st.integers(1, len(turn.events)))
    part, whole = folded(turn.events[:cut]), folded(turn.events)
    assert {step.step_id for step in part.steps} <= {step.step_id for step in whole.steps}
    assert len(part.lives) <= len(whole.lives)
    for before, after in zip(part.lives[:-1], whole.lives, strict=False):
        assert before == after
    assert part.delivered is None or cut == len(turn.events)


@given(turns())
def test_the_record_survives_the_journal(turn: Turn) -> None:
    """Events that were written and read back add up to the same record."""
    frames = [encode_frame([event]) for event in turn.events]
    assert fold(decode_frames(frames)) == fold(turn.events)
    assert fold(decode_frames([encode_frame(turn.events)])) == fold(turn.events)


@given(turns())
def test_the_six_answers_leave_nothing_out(turn: Turn) -> None:
    """Every step succeeded or is named as not, each with its time; what was seen was told."""
    trace = folded(turn.events)
    answers = answer(trace)
    assert len(QUESTIONS) == 6
    assert answers.called == trace.steps
    assert sorted([*answers.succeeded, *(step.step_id for step in answers.failed)]) == sorted(
        step.step_id for step in trace.steps
    )
    assert set(answers.took_s) == {step.step_id for step in trace.steps}
    assert answers.delivered == (
        turn.status in {TurnStatus.DONE, TurnStatus.FAILED, TurnStatus.DEGRADED}
    )
    assert answers.seen == turn.told
    assert answers.tried == "handler shop:assist(message='hi')"
    assert (answers.total_s is not None) == answers.delivered
    if answers.total_s is not None:
        assert answers.total_s >= sum(
            life.ended_at - life.began_at for life in trace.lives if life.ended_at is not None
        )


# Single facts


def test_no_events_are_no_turn() -> None:
    """Where nothing was written there is nothing to tell."""
    assert fold([]) is None


STARTED = TurnStarted("t-1", "workflow", "shop:flow", b"", raw({}), None, 1.0)


def test_a_turn_that_runs_has_no_end() -> None:
    """A journal that just stops says that the turn is running, and nothing of its end."""
    trace = folded([STARTED])
    assert trace.status is TurnStatus.RUNNING
    assert (trace.ended_at, trace.delivered, trace.error) == (None, None, None)
    assert trace.lives == (Life(1.0, None, "running"),)
    assert answer(trace).total_s is None


def test_a_life_without_a_last_word_was_killed() -> None:
    """Being taken up again says that the life before had ended without a word."""
    trace = folded([STARTED, TurnResumed(2, 5.0), TurnEnded(TurnStatus.DONE, 9.0, raw("ok"))])
    assert trace.lives == (Life(1.0, None, "killed"), Life(5.0, 9.0, "ended"))
    assert answer(trace).total_s == 8.0


def test_a_parked_life_is_not_killed() -> None:
    """A turn that waited says from when to when each of its lives was."""
    trace = folded([STARTED, TurnParked(TurnStatus.WAITING, (), 2.0), TurnResumed(2, 5.0)])
    assert trace.lives == (Life(1.0, 2.0, "parked"), Life(5.0, None, "running"))
    assert trace.status is TurnStatus.RUNNING


def test_a_decided_turn_waits_for_a_process_only() -> None:
    """Once a person decided, a parked turn waits for nobody else; a running one just goes on."""
    asked = ApprovalAsked(1, "send", 2.0, b"", raw({}))
    decided = ApprovalDecided(1, granted=True, by="ada", at=4.0)
    parked = TurnParked(TurnStatus.WAITING, (1,), 3.0)
    assert folded([STARTED, asked, parked]).status is TurnStatus.WAITING
    trace = folded([STARTED, asked, parked, decided])
    assert trace.status is TurnStatus.STOPPED
    assert trace.steps[0].decisions == (Decision("approved", "person", "ada", 4.0),)
    assert folded([STARTED, asked, decided]).status is TurnStatus.RUNNING


@pytest.mark.parametrize(
    ("applied", "what", "status"),
    [
        (True, "applied", StepStatus.OK),
        (False, "not applied", StepStatus.IN_DOUBT),
        (None, "repeated", StepStatus.IN_DOUBT),
    ],
)
def test_a_doubt_keeps_who_settled_it(
    *, applied: bool | None, what: str, status: StepStatus
) -> None:
    """How a doubt was settled, and by whom, stands with the step."""
    trace = folded(
        [
            STARTED,
            StepStarted(1, "send", "tool", 2.0, changes=True),
            TurnParked(TurnStatus.IN_DOUBT, (1,), 3.0),
            DoubtSettled(1, applied, "verify", "get", 4.0, raw("found") if applied else NIL),
        ]
    )
    (step,) = trace.steps
    assert step.status is status
    assert step.decisions == (Decision(what, "verify", "get", 4.0),)
    assert step.value == ("found" if applied else None)


def test_the_arguments_of_a_call_stand_with_it() -> None:
    """Claims, arguments and causes of a step are as they were when it began."""
    trace = folded(
        [
            STARTED,
            StepStarted(1, "get", "tool", 2.0, args=raw({"id": 7})),
            StepEnded(1, StepStatus.OK, 0.5, raw("gold")),
            StepStarted(
                2, "send", "tool", 3.0, changes=True, causes=(1,), claims=(("write", "crm/7"),)
            ),
        ]
    )
    get, send = trace.steps
    assert (get.arguments, get.value, get.took_s, get.changes) == ({"id": 7}, "gold", 0.5, False)
    assert (send.arguments, send.causes, send.claims) == (None, ("get.1",), (("write", "crm/7"),))
    assert (send.changes, send.took_s) == (True, None)
