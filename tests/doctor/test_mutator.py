"""Faults do what they say, and nothing else: what the doctor is measured on."""

from __future__ import annotations

import random

import pytest

from bench.doctor.faulted import FAULTS
from bench.doctor.faults import CHAT, SPANS, Fault
from bench.doctor.runs import Batch, Call, Run, Say
from bench.doctor.stories import healthy
from bench.doctor.writers import WRITERS, anthropic, openai, otlp
from undercroft.doctor.report import LAYERS

HEALTHY = healthy(42)
BY_NAME = {fault.name: fault for fault in FAULTS}


def put(name: str, run: Run) -> Run:
    """Return the run with that fault in it."""
    broken = BY_NAME[name].inject(run, random.Random(1))  # noqa: S311  nothing is secret here
    assert broken is not None
    return broken


def call(name: str, n: int, *, writes: bool = False, **args: str) -> Call:
    """Return a call on ticket T1."""
    return Call(
        name=name,
        args={"ticket_id": "TCK-11", **args},
        result='{"ticket_id": "TCK-11", "owner": "ada@example.com", "state": "open"}',
        id=f"call_{n}",
        writes=writes,
        key="TCK-11",
    )


def ticket() -> Run:
    """Return a run that finds a ticket, reads it, asks, and changes it twice."""
    found = Call(
        name="find", args={"who": "ada@example.com"}, result="the ticket is TCK-11", id="call_0"
    )
    return Run(
        trace_id="t",
        source="tickets",
        confirms=True,
        beats=(
            Say("system", "Ask before you change anything."),
            Say("user", "I am ada@example.com. Close my ticket, it is urgent."),
            Batch((found,)),
            Batch((call("get_ticket", 1),)),
            Say("assistant", "Shall I close it?"),
            Say("user", "Yes, go ahead."),
            Batch((call("close_ticket", 2, writes=True, how="fixed"),)),
            Batch((call("set_priority", 3, writes=True, to="high"),)),
            Say("assistant", "Your ticket has been closed."),
        ),
    )


def names(run: Run) -> list[list[str]]:
    """Return the names of the calls, batch by batch."""
    return [[c.name for c in beat.calls] for beat in run.beats if isinstance(beat, Batch)]


def test_every_layer_has_three_faults() -> None:
    """Each of the six layers is taken away in at least three ways."""
    for layer in LAYERS:
        assert len([fault for fault in FAULTS if fault.layer == layer]) >= 3
    assert len(BY_NAME) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_the_same_for_the_same_seed(fault: Fault) -> None:
    """A fault changes some healthy run, each time in the same way, and leaves the run itself."""
    changed = 0
    for run in HEALTHY:
        before = repr(run)
        one = fault.inject(run, random.Random(7))  # noqa: S311  nothing is secret here
        two = fault.inject(run, random.Random(7))  # noqa: S311  nothing is secret here
        assert one == two
        assert one != run
        assert repr(run) == before
        if one is not None and not changed:
            for form in fault.formats:
                WRITERS[form](one)
        changed += one is not None
    assert changed


def test_reads_go_and_writes_stay() -> None:
    """Dropping the read of a record drops that only; moving its write puts it before the read."""
    assert names(put("read dropped", ticket())) == [["find"], ["close_ticket"], ["set_priority"]]
    moved = put("write moved before read", ticket())
    assert names(moved)[:3] == [["find"], ["close_ticket"], ["get_ticket"]]


def test_an_unknown_id_was_in_nothing_before() -> None:
    """What is put in for an id stands nowhere else in the run, and has the same shape."""
    broken = put("unknown id written", ticket())
    key = next(c.key for _, _, c in broken.calls() if c.name == "close_ticket")
    assert key != "TCK-11"
    assert key.startswith("TCK-")
    assert repr(ticket()).count(key) == 0


def test_consent_goes_with_the_question() -> None:
    """Dropping consent drops offer and answer; refusing it leaves a word that is no yes."""
    dropped = put("consent dropped", ticket())
    assert not any(isinstance(b, Say) and "go ahead" in b.text for b in dropped.beats)
    refused = put("consent refused", ticket())
    assert isinstance(refused.beats[5], Say)
    assert "Yes" not in refused.beats[5].text


def test_what_is_used_comes_before_what_makes_it() -> None:
    """A call that needs a value is put before, or beside, the call that brings it up."""
    assert names(put("used before made", ticket()))[:2] == [["get_ticket"], ["find"]]
    assert names(put("used beside maker", ticket()))[0] == ["find", "get_ticket"]
    assert put("used before end", ticket()).spans["overlap"] == ("call_0", "call_1")


def test_writes_are_joined() -> None:
    """Two writes to one record come to stand in one batch, after both were agreed to."""
    assert names(put("two writes joined", ticket()))[-1] == ["close_ticket", "set_priority"]
    assert put("writes overlapping", ticket()).spans["overlap"] == ("call_2", "call_3")


def test_repeated_writes_succeed() -> None:
    """A repeated write has the same arguments and succeeds; one that conflicts has others."""
    run = ticket().with_beats(*ticket().beats[:7], ticket().beats[8])
    twice = [c for _, _, c in put("written twice", run).calls() if c.writes]
    assert len(twice) == 2
    assert twice[0].args == twice[1].args
    assert twice[0].id != twice[1].id
    other = [c for _, _, c in put("written otherwise", run).calls() if c.writes]
    assert other[0].args != other[1].args
    assert all(c.ok for c in (*twice, *other))


def test_failures_repeat_with_nothing_between() -> None:
    """A failing call is repeated at least three times with the same arguments."""
    broken = put("same call fails on", ticket())
    failed = [c for _, _, c in broken.calls() if not c.ok]
    assert len(failed) >= 3
    assert len({(c.name, repr(c.args), c.result) for c in failed}) == 1


def test_a_cut_run_ends_with_a_result() -> None:
    """A run that is cut off ends with a batch whose calls have results."""
    last = put("cut off", ticket()).beats[-1]
    assert isinstance(last, Batch)
    assert all(c.result is not None for c in last.calls)


def test_success_is_told_of_a_failure() -> None:
    """The last write before the agent says that it is done has failed, or is gone."""
    run = ticket().with_beats(*ticket().beats[:7], ticket().beats[8])
    failed = [c for _, _, c in put("failure told as done", run).calls() if c.writes]
    assert [c.ok for c in failed] == [False]
    assert not any(c.writes for _, _, c in put("nothing told as done", run).calls())


def test_writers_write_the_same_calls() -> None:
    """Each format holds every call with its name, in order."""
    run = ticket()
    wanted = [c.name for _, _, c in run.calls()]
    chat = [c["function"]["name"] for m in openai(run)["messages"] for c in m.get("tool_calls", ())]
    blocks = [
        block["name"]
        for message in anthropic(run)["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_use"
    ]
    spans = otlp(run)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    tools = [
        one["value"]["stringValue"]
        for span in spans
        for one in span["attributes"]
        if one["key"] == "gen_ai.tool.name"
    ]
    assert chat == blocks == tools == wanted


def test_spans_lack_what_a_fault_takes_away() -> None:
    """A fault of spans leaves out one thing of one span, and chat logs do not show it."""
    broken = put("status dropped", ticket())
    spans = otlp(broken)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [("status" in span) for span in spans].count(False) == 1
    assert openai(broken) == openai(ticket())
    assert BY_NAME["status dropped"].formats == SPANS
    assert BY_NAME["cut off"].formats == CHAT
