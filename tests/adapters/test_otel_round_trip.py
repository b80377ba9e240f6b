"""A turn goes out as OTLP to a real endpoint, and comes back in as the same facts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

import undercroft as uc
from tests.adapters.collector import Collector, attributes
from undercroft.adapters.otel import OTelExporter
from undercroft.doctor.importers.journal import case_of as case_of_journal
from undercroft.doctor.importers.otlp import FORMAT
from undercroft.layers.observability.state import fold
from undercroft.model import genai
from undercroft.model.case import Access, Basis, CallStatus, Case, Facet, Touch
from undercroft.model.event import decode_frames
from undercroft.model.trace import Trace
from undercroft.testing import ScriptedModel

TIERS = {"7": "basic", "8": "gold"}
LOST: list[int] = []
STATUSES = {
    "ok": CallStatus.OK,
    "failed": CallStatus.FAILED,
    "refused": CallStatus.REFUSED,
    "waiting": CallStatus.WAITING,
}


@uc.tool(reads="crm/{account_id}", service="crm")
async def get_tier(account_id: str) -> str:
    """Return the tier of an account."""
    return TIERS[account_id]


@uc.tool(writes="crm/{account_id}", service="crm", needs=[get_tier])
async def set_tier(account_id: str, tier: str) -> dict[str, str]:
    """Change the tier of an account."""
    return {"account": account_id, "tier": tier}


@uc.tool(peeks="index", service="index", retry=uc.Retry(attempts=2, wait_s=0.001))
async def search(text: str) -> str:
    """Find accounts."""
    LOST.append(1)
    if len(LOST) == 1:
        raise ConnectionError("the line is down")
    return f"nothing for {text}"


@uc.tool(writes="crm/{account_id}", service="crm", approval=True)
async def close_account(account_id: str) -> str:
    """Close an account."""
    return f"{account_id} is closed"


@uc.handler(tools=[get_tier, set_tier, search, close_account])
async def assist(turn: uc.Turn, message: str) -> str:
    """Do as the model says."""
    turn.context.user(message)
    while (answer := await turn.model()).calls:
        await turn.calls(answer.calls)
    return answer.text


def script(*more: uc.Call) -> ScriptedModel:
    """Return a model that reads, writes, is refused, and meets errors."""
    usage = uc.Usage(input_tokens=120, output_tokens=8)
    return ScriptedModel(
        [
            uc.Answer(
                "", (uc.Call("get_tier", {"account_id": "7"}, "c1"),), usage
            ),
            [uc.Call("set_tier", {"account_id": "8", "tier": "none"}, "c2"),
             uc.Call("get_tier", {"account_id": "9"}, "c3")],
            [uc.Call("set_tier", {"account_id": "7", "tier": "gold"}, "c4"),
             uc.Call("search", {"text": "Ada"}, "c5"), *more],
            "Account 7 is gold now.",
        ]
    )  # fmt: skip


async def told(
    collector: Collector, *, content: bool = True, approve: bool = False
) -> tuple[Trace, list[dict[str, Any]]]:
    """Run a turn that is told to a collector; return its record and the lines of the file."""
    LOST.clear()
    exporter = OTelExporter(collector.endpoint, content=content)
    more = [uc.Call("close_account", {"account_id": "7"}, "c6")] if approve else []
    async with uc.Runtime(model=script(*more), exporters=[exporter]) as rt:
        outcome = await rt.run(assist, session="s-1", message="Make 7 gold, ada@example.com")
        if approve:
            outcome = await rt.approve(outcome.turn_id, by="ada")
        trace = rt.trace(outcome.turn_id)
    assert exporter.dropped == 0
    return trace, collector.traces


def case_of(lines: Sequence[Any]) -> Case:
    """Return the run that the lines of a collector's file hold."""
    assert all(FORMAT.fits(line) == 1.0 for line in lines)
    records = [record for line in lines for record in FORMAT.records(json.loads(json.dumps(line)))]
    assert len({FORMAT.trace_of(record) for record in records}) == 1
    return FORMAT.case(records, "a file")


def check_same(case: Case, trace: Trace) -> None:
    """Check that a case holds the facts of a turn's record."""
    assert case.trace_id == trace.turn_id
    assert case.delivered == trace.delivered
    calls = [step for step in trace.steps if step.kind != "model"]
    assert [call.name for call in case.calls] == [step.name for step in calls]
    for call, step in zip(case.calls, calls, strict=True):
        assert call.status is STATUSES[step.status.value]
        assert call.status_basis is Basis.DECLARED
        assert call.arguments == step.arguments
        assert call.touches == tuple(Touch(mode, key) for mode, key in step.claims)
        assert call.rule == (step.refusal.rule if step.refusal else "")
        assert call.error == str(step.error or (step.refusal and step.refusal.message) or "")
        assert call.error_class == (step.error.error_class.value if step.error else "")
        assert call.attempt == max(1, step.attempts)
        if step.attempts:
            assert call.access is (Access.WRITE if step.changes else Access.READ)
            assert call.access_basis is Basis.DECLARED
        if step.status.value == "ok":
            value = step.value if isinstance(step.value, str) else json.dumps(step.value)
            assert call.result == value
        if step.began_at is not None and step.took_s is not None and step.attempts:
            assert call.began_at == pytest.approx(step.began_at, abs=1e-6)
            assert call.took_s == pytest.approx(step.took_s, abs=1e-6)
    assert not case.flaws


async def test_a_turn_comes_back_as_the_same_facts() -> None:
    """Calls, how they ended, claims, refusals and what was said survive the way out and in."""
    with Collector() as collector:
        trace, lines = await told(collector)
        case = case_of(lines)
    check_same(case, trace)
    assert {call.status for call in case.calls} == {
        CallStatus.OK, CallStatus.FAILED, CallStatus.REFUSED,
    }  # fmt: skip
    assert [text.text for text in case.texts if text.role == "user"] == [
        "Make 7 gold, ada@example.com"
    ]
    assert case.asks[0].input_tokens == 120
    assert [len(ask.prompt or ()) for ask in case.asks] == [1, 3, 6, 9]
    assert case.asks[-1].answer == "Account 7 is gold now."
    assert case.finished is True
    assert ("breakers.retry" in {act.rule for act in case.acts}) is True
    assert {Facet.EFFECTS, Facet.GUARDS, Facet.PROMPTS, Facet.STATUSES} <= case.shows
    # A batch is what one answer proposed, and each result goes to the call that it is of.
    assert len({call.batch for call in case.calls}) == 3


async def test_a_turn_that_parks_is_one_trace_and_the_same_spans() -> None:
    """What is told when a turn parks is told again when it ends, under the same ids."""
    with Collector() as collector:
        trace, lines = await told(collector, approve=True)
        spans = collector.spans()
        roots = [span for span in spans if "parentSpanId" not in span]
        case = case_of(lines)
    assert len({span["traceId"] for span in spans}) == 1
    assert len(roots) == 2
    assert len({span["spanId"] for span in roots}) == 1
    again = [span["spanId"] for span in spans]
    # Told twice are only the turn itself and the step that had waited.
    assert len(again) - len(set(again)) == 2
    check_same(case, trace)
    assert any(act.rule == "sequencing.approval" for act in case.acts)
    decided = [event for span in spans for event in span.get("events", ())]
    assert any(event["name"] == genai.DECISION for event in decided)


def spread(case: Case) -> dict[str, Any]:
    """Return a run by the places in the input, with what both of our formats tell."""
    places = case.places or range(case.steps)

    def at(step: int | None) -> int | None:
        return None if step is None else -1 if step < 0 else places[step]

    return {
        "id": case.trace_id,
        "calls": [
            (at(c.step), c.name, at(c.ended), c.arguments, c.result, c.status, c.status_basis,
             c.error, c.error_class, c.rule, c.attempt, c.access, c.access_basis, c.touches,
             # Of what never began the journal itself does not say who proposed it.
             at(c.batch) if c.rule == "" else None, tuple(map(at, c.causes)), c.turn, c.actor)
            for c in case.calls
        ],
        "asks": [
            (at(a.step), a.answer, a.input_tokens, a.output_tokens, a.window_tokens, a.status)
            for a in case.asks
        ],
        "texts": [(at(t.step), t.role, t.text, t.turn) for t in case.texts],
        "acts": [(at(a.step), a.rule) for a in case.acts],
        "end": (case.delivered, case.error, case.finished, case.flaws),
        "declared": case.declared,
        "shows": case.shows,
    }  # fmt: skip


@pytest.mark.parametrize("approve", [False, True])
async def test_the_way_out_and_in_says_what_the_journal_does(*, approve: bool) -> None:
    """What is read from spans of a turn is what is read from its journal."""
    with Collector() as collector:
        LOST.clear()
        heard = OTelExporter(collector.endpoint, content=True)
        more = [uc.Call("close_account", {"account_id": "7"}, "c6")] if approve else []
        async with uc.Runtime(model=script(*more), exporters=[heard]) as rt:
            outcome = await rt.run(assist, message="Make 7 gold, ada@example.com")
            if approve:
                outcome = await rt.approve(outcome.turn_id, by="ada")
            frames = rt._store.frames(outcome.turn_id)  # noqa: SLF001  what a journal holds
        assert frames is not None
        events = decode_frames(frames)
        trace = fold(events)
        assert trace is not None
        told = spread(last_telling(collector.traces))
    meant = spread(case_of_journal(trace, events))
    for fact, value in meant.items():
        assert told[fact] == value, fact


def last_telling(lines: Sequence[Any]) -> Case:
    """Return the run as the spans say that were told of each step and of the turn last."""
    last: dict[str, Any] = {}
    for line in lines:
        for record in FORMAT.records(json.loads(json.dumps(line))):
            last[record["spanId"]] = record
    numbers = {key: attributes(one).get(genai.STEP_NUMBER, "999") for key, one in last.items()}
    return FORMAT.case([last[key] for key in sorted(last, key=lambda k: int(numbers[k]))], "a file")


async def test_without_content_nothing_that_was_said_leaves() -> None:
    """Unless content is asked for, no argument, result, prompt or reply is in what is sent."""
    with Collector() as collector:
        trace, lines = await told(collector, content=False)
        case = case_of(lines)
        sent = json.dumps([collector.traces, collector.metrics])
    for said in ("gold now", "ada@example.com", '"tier"', "nothing for Ada", "basic"):
        assert said not in sent
    assert not case.shows & {Facet.ARGUMENTS, Facet.RESULTS, Facet.PROMPTS, Facet.DELIVERED}
    assert [call.status for call in case.calls] == [
        STATUSES[step.status.value] for step in trace.steps if step.kind != "model"
    ]
    began = {step.name for step in trace.steps if step.attempts}
    assert all(call.touches for call in case.calls if call.name in began - {"set_tier"})


async def test_metrics_are_those_of_the_conventions_and_ours() -> None:
    """Durations and tokens by operation; steps by status, retries, and refusals by rule."""
    with Collector() as collector:
        await told(collector, approve=True)
        durations = collector.points(genai.OPERATION_DURATION)
        tokens = collector.points(genai.TOKEN_USAGE)
        steps = collector.points(genai.STEPS)
        refusals = collector.points(genai.REFUSALS)
        retries = collector.points(genai.RETRIES)
        turns = collector.points(genai.TURNS)
    assert {at[genai.OPERATION] for at, _ in durations} == {genai.CHAT, genai.EXECUTE_TOOL}
    assert all(point["explicitBounds"][0] == 0.01 for _, point in durations)
    assert {at[genai.TOKEN_TYPE]: point["sum"] for at, point in tokens} == {
        "input": 120, "output": 8,
    }  # fmt: skip
    # Each step once, although the turn was told twice.
    by_status: dict[str, int] = {}
    for at, point in steps:
        status = at[genai.STEP_STATUS]
        by_status[status] = by_status.get(status, 0) + int(point["asInt"])
    assert by_status == {"ok": 8, "refused": 1, "failed": 1}
    assert [at[genai.RULE] for at, _ in refusals] == ["sequencing.needs"]
    assert sum(int(point["asInt"]) for _, point in retries) == 1
    assert {at[genai.TURN_STATUS] for at, _ in turns} == {"waiting", "done"}


async def test_a_span_says_what_it_is_by_the_conventions() -> None:
    """Names, kinds and links of spans are those that viewers of GenAI spans know."""
    with Collector() as collector:
        await told(collector)
        spans = {span["name"]: span for span in collector.spans()}
        scopes = collector.traces[0]["resourceSpans"][0]["scopeSpans"]
    root = next(span for name, span in spans.items() if name.startswith(genai.INVOKE_AGENT))
    assert attributes(root)[genai.CONVERSATION] == "s-1"
    assert spans["chat model"]["kind"] == "SPAN_KIND_CLIENT"
    assert spans["execute_tool get_tier"]["kind"] == "SPAN_KIND_INTERNAL"
    failed = next(span for span in collector.spans() if span.get("status", {}).get("code"))
    assert attributes(failed)[genai.ERROR_TYPE] == "KeyError"
    assert scopes[0]["schemaUrl"] == genai.SCHEMA_URL
    assert spans["execute_tool set_tier"]["links"]
