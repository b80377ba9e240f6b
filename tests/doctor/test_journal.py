"""Our own journal: a turn as the doctor reads it, from its events and from its JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.doctor.anything import json_values, steps_of
from undercroft.cli.plain import to_json
from undercroft.doctor.importers.journal import FORMAT, case_of
from undercroft.engine.traces import trace_of
from undercroft.model.case import Access, Basis, CallStatus, Case, Facet
from undercroft.model.event import AnyEvent, decode_frames
from undercroft.model.trace import Trace
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import ScriptedModel, run_virtual


class Shop:
    """Tools over one order."""

    def __init__(self) -> None:
        self.failing = 0

        @uc.tool(reads="order/{order_id}", service="shop", retry=uc.Retry(attempts=3))
        async def get_order(order_id: str) -> dict[str, str]:
            """Look an order up."""
            if self.failing:
                self.failing -= 1
                raise ConnectionResetError("connection reset")
            return {"order_id": order_id, "status": "pending"}

        @uc.tool(writes="order/{order_id}", service="shop")
        async def cancel_order(order_id: str) -> str:
            """Cancel an order."""
            return f"{order_id} is cancelled"

        @uc.tool(writes="money/{order_id}", service="bank", approval=True)
        async def refund(order_id: str) -> str:
            """Give money back."""
            return f"{order_id} is refunded"

        @uc.handler(tools=[get_order, cancel_order, refund])
        async def assist(turn: uc.Turn, message: str) -> str:
            turn.context.system("Be kind.")
            turn.context.user(message)
            while True:
                answer = await turn.model()
                if not answer.calls:
                    return answer.text
                await turn.calls(answer.calls)

        self.assist = assist


def ran(
    *answers: Any,
    shop: Shop | None = None,
    message: str = "Cancel #A1001",
    context: uc.ContextPolicy | None = None,
) -> tuple[Trace, list[AnyEvent]]:
    """Run a turn and return its trace and its events."""
    journal, shop = MemoryJournal(), shop or Shop()
    store = MemoryStore(journal)

    async def play() -> list[AnyEvent]:
        model = ScriptedModel(list(answers))
        async with uc.Runtime(store, model=model, targets=[shop.assist], context=context) as rt:
            outcome = await rt.run(shop.assist, message=message)
            return decode_frames(store.frames(outcome.turn_id) or [])

    events = run_virtual(play())
    trace = trace_of(events)
    assert trace is not None
    return trace, events


def order(name: str, order_id: str = "#A1001") -> list[uc.Call]:
    """Return a batch of one call."""
    return [uc.Call(name, {"order_id": order_id})]


def test_a_turn_tells_all_that_it_declares() -> None:
    """Calls have their claims, statuses and batches; prompts and words are told once."""
    case = case_of(*ran(order("get_order"), order("cancel_order"), "It is cancelled."))

    assert [(c.name, c.step, c.ended, c.batch, c.status) for c in case.calls] == [
        ("get_order", 1, 1, 0, CallStatus.OK),
        ("cancel_order", 3, 3, 2, CallStatus.OK),
    ]
    assert [(c.access, c.access_basis) for c in case.calls] == [
        (Access.READ, Basis.DECLARED),
        (Access.WRITE, Basis.DECLARED),
    ]
    assert [[(t.mode, t.key) for t in c.touches] for c in case.calls] == [
        [("read", "order/#A1001")],
        [("write", "order/#A1001")],
    ]
    assert [(t.role, t.step, t.text) for t in case.texts] == [
        ("system", 0, "Be kind."),
        ("user", 0, "Cancel #A1001"),
        ("assistant", 4, "It is cancelled."),
    ]
    assert [len(ask.prompt or ()) for ask in case.asks] == [2, 4, 6]
    assert case.asks[1].prompt is not None
    assert case.asks[1].prompt[-1] == ("tool", '{"order_id":"#A1001","status":"pending"}')
    assert case.delivered == "It is cancelled."
    assert case.finished is True
    assert case.shown(Facet.EFFECTS, Facet.GUARDS, Facet.PROMPTS, Facet.STATUSES, Facet.TIMES)


def test_a_refused_call_is_refused_by_its_rule() -> None:
    """What a guard refused did not happen, and is told with the guard's rule."""
    case = case_of(*ran(order("cancel_order"), "I may not."))

    (call,) = case.calls
    assert (call.status, call.rule) == (CallStatus.REFUSED, "sequencing.read_first")
    assert call.batch == 0
    assert call.access is Access.UNKNOWN


def test_attempts_that_were_made_again_are_one_call() -> None:
    """A call that was tried again is one, and an act of the breakers tells how often."""
    shop = Shop()
    shop.failing = 1
    case = case_of(*ran(order("get_order"), "It is pending.", shop=shop))

    (call,) = case.calls
    assert (call.status, call.attempt) == (CallStatus.OK, 2)
    assert [(act.rule, act.step) for act in case.acts] == [("breakers.retry", 1)]
    assert "connection reset" in case.acts[0].quote


def test_a_call_that_waits_for_a_person_waits() -> None:
    """An approval that nobody has given is a call that waits, and an act."""
    case = case_of(*ran(order("refund"), "Done."))

    assert {(c.name, c.status) for c in case.calls} == {("refund", CallStatus.WAITING)}
    assert "sequencing.approval" in {act.rule for act in case.acts}
    assert case.delivered is None


def test_a_compacted_window_is_told_and_its_prompts_lose_what_it_lost() -> None:
    """A compaction is an act of the context layer; what it left out is in no later prompt."""
    policy = uc.ContextPolicy(limit_tokens=700, reserved_tokens=100, pins=("Orders are sacred.",))
    shop = Shop()
    long = [order("get_order", f"#A{n}{'0' * 150}") for n in range(12)]
    case = case_of(*ran(*long, "They are pending.", shop=shop, context=policy))

    compacted = [act.step for act in case.acts if act.rule == "context.compacted"]
    prompts = [ask.prompt or () for ask in case.asks]
    assert compacted
    assert {ask.window_tokens for ask in case.asks} == {700}
    assert len(prompts[-1]) < 2 + 2 * len(long)
    assert any("[elided" in text for _, text in prompts[-1]) or len(prompts[-1]) < len(long)
    assert all(("system", "Be kind.") in prompt for prompt in prompts)
    assert all(("system", "Orders are sacred.") in prompt for prompt in prompts)
    assert case.asks[0].input_tokens is not None


def test_a_turn_of_a_session_knows_what_went_before() -> None:
    """What was said and found out in earlier turns is known, and not of this turn."""
    _, before = ran(order("get_order"), "It is pending.")
    trace, events = ran("Yes.", message="Really?")
    case = case_of(trace, events, earlier=[before])

    known = " ".join(text.text for text in case.texts if text.role != "assistant")
    assert "Cancel #A1001" in known
    assert [call.name for call in case.calls] == []


@pytest.mark.parametrize(
    "answers",
    [
        (order("get_order"), order("cancel_order"), "It is cancelled."),
        (order("cancel_order"), "I may not."),
        (order("refund"), "Done."),
    ],
)
def test_the_json_of_a_trace_tells_the_same(answers: tuple[Any, ...]) -> None:
    """What `show --json` prints tells all that does not stand in events only."""
    trace, events = ran(*answers)
    document = json.loads(to_json(trace))
    (record,) = FORMAT.records(document)

    printed, whole = FORMAT.case([record], "file"), case_of(trace, events)

    assert FORMAT.fits(document) > 0.9
    assert FORMAT.trace_of(record) is None
    assert printed.trace_id == whole.trace_id == trace.turn_id
    assert printed.calls == whole.calls
    assert printed.delivered == whole.delivered
    assert printed.finished == whole.finished
    assert [act.rule for act in printed.acts] == [act.rule for act in whole.acts]
    assert "Cancel #A1001" in [text.text for text in printed.texts if text.role == "user"]


def test_a_workflow_tells_what_it_was_given_and_used() -> None:
    """Steps of a workflow are calls that name the steps whose results they used."""
    flow = uc.Workflow("order")

    @flow.resolve
    async def customer(email: str) -> str:
        return email.partition("@")[0]

    @flow.execute(appends="mail/{customer}")
    async def send(customer: str) -> str:
        return f"sent to {customer}"

    store = MemoryStore(MemoryJournal())

    async def play() -> list[AnyEvent]:
        async with uc.Runtime(store) as rt:
            outcome = await rt.run(flow, email="ada@example.com")
            return decode_frames(store.frames(outcome.turn_id) or [])

    events = run_virtual(play())
    trace = trace_of(events)
    assert trace is not None
    case = case_of(trace, events)

    assert [(c.name, c.causes, c.access) for c in case.calls] == [
        ("customer", (), Access.NEITHER),
        ("send", (0,), Access.WRITE),
    ]
    assert [(t.role, t.text) for t in case.texts] == [("user", "ada@example.com")]


def test_any_beginning_of_a_journal_is_read() -> None:
    """A turn that was cut off anywhere is read as far as it came."""
    _, events = ran(order("get_order"), order("cancel_order"), "It is cancelled.")
    for count in range(1, len(events) + 1):
        trace = trace_of(events[:count])
        assert trace is not None
        case: Case = case_of(trace, events[:count])
        assert all(0 <= step < max(1, case.steps) for step in steps_of(case))
        assert case.finished is (count == len(events))


@settings(max_examples=60)
@given(st.lists(json_values, max_size=3))
def test_whatever_is_there_is_read(documents: list[Any]) -> None:
    """No input is an error."""
    for document in documents:
        assert FORMAT.fits(document) in {0.0, 0.99}
        assert FORMAT.case(list(FORMAT.records(document)), "file").shows <= FORMAT.can_show


@settings(max_examples=60)
@given(st.data())
def test_whatever_becomes_of_the_json_is_read(data: st.DataObject) -> None:
    """The JSON of a trace with any of its values replaced by anything is still read."""
    document = json.loads(PRINTED)
    for _ in range(data.draw(st.integers(1, 3))):
        held = data.draw(st.sampled_from([document, *document["steps"]]))
        if isinstance(held, dict):
            key = data.draw(st.sampled_from(sorted(held)))
            held[key] = data.draw(json_values) if key != "steps" else held[key]

    FORMAT.case([document], "file")


PRINTED = to_json(ran(order("get_order"), order("cancel_order"), "It is cancelled.")[0])
