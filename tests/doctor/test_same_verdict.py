"""One run, written down by every system: the doctor says the same of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.doctor.stories import Batch, Call, Reply, Story, User, story
from tests.doctor.writers import WRITERS
from undercroft.cli.plain import to_json
from undercroft.doctor.effects import infer
from undercroft.doctor.importers import FORMATS
from undercroft.doctor.importers import journal as ours
from undercroft.doctor.report import Diagnosis
from undercroft.doctor.source import read_cases
from undercroft.doctor.verdict import examine
from undercroft.engine.traces import trace_of
from undercroft.model.case import Case
from undercroft.model.event import AnyEvent, decode_frames
from undercroft.model.trace import Trace
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import ScriptedModel, run_virtual


def order(order_id: str = "#A1001", status: str = "open") -> dict[str, Any]:
    """Return an order as the shop knows it."""
    return {"order_id": order_id, "status": status, "total": 40}


THIS = {"order_id": "#A1001"}
FIND = Call("find_user", {"email": "ada@example.com"}, {"user_id": "ada_1", "orders": ["#A1001"]})
LOOK = Call("get_order", THIS, order())
CANCEL = Call("cancel_order", THIS, order(status="cancelled"))
MOVE = Call("set_order_address", {**THIS, "address": "Elm Street 1"}, order(), lag_s=0.0)
DOWN = Call("get_order", THIS, error="503 service unavailable")
SHIPPED = Call("cancel_order", THIS, error="the order was already shipped")

HELLO = "I am ada@example.com. Please cancel my order #A1001."
ASK = "Your order #A1001 is open. Shall I cancel it?"
YES = "Yes, please cancel order #A1001."
DONE = "Your order #A1001 is cancelled."

HEALTHY = story(HELLO, FIND, LOOK, ASK, YES, CANCEL, DONE)
FAULTY: Mapping[str, Story] = {
    # Nobody read the order that is cancelled, though the run could.
    "sequencing": story(
        "Which items are in order #A1002?",
        Call("get_order", {"order_id": "#A1002"}, order("#A1002")),
        "It has one item.",
        "Now cancel my order #A1001. Yes, I am sure.",
        CANCEL,
        DONE,
    ),
    # Two writes to one order at the same time.
    "parallelism": story(
        HELLO, FIND, LOOK, ASK, YES, [MOVE, Call("cancel_order", THIS, order(), lag_s=0.0)], DONE
    ),
    # The same write succeeds twice.
    "conflicts": story(HELLO, FIND, LOOK, ASK, YES, CANCEL, CANCEL, DONE),
    # A service that is down is called on and on.
    "breakers": story(HELLO, FIND, DOWN, DOWN, DOWN, DOWN, "I could not look it up, sorry."),
    # The same is read again and again.
    "context": story(HELLO, FIND, LOOK, LOOK, LOOK, ASK, YES, CANCEL, DONE),
    # The user is told of a success that there was not.
    "observability": story(HELLO, FIND, LOOK, ASK, YES, SHIPPED, DONE),
}
STORIES: Mapping[str, Story] = {"none": HEALTHY, **FAULTY}
_BY_NAME = {form.name: form for form in FORMATS}


def read(flavour: str, told: Story) -> Case:
    """Return the run as an importer reads it from what a writer wrote."""
    form = _BY_NAME[flavour.partition(" ")[0]]
    documents = WRITERS[flavour](told)
    return form.case([one for doc in documents for one in form.records(doc)], "file")


def said(case: Case) -> Diagnosis:
    """Return what the doctor says of a run."""
    return examine(infer(case))


def findings(diagnosis: Diagnosis) -> dict[str, tuple[str, frozenset[str]]]:
    """Return by layer the verdict and the rules that are behind it."""
    return {
        one.layer: (str(one.verdict), frozenset(found.rule.name for found in one.findings))
        for one in diagnosis.layers
    }


@pytest.mark.parametrize("layer", STORIES)
def test_every_format_leads_to_the_same_verdict(layer: str) -> None:
    """Whoever recorded a run, the cause, each layer's verdict and its rules are the same."""
    told = STORIES[layer]
    found = {flavour: said(read(flavour, told)) for flavour in WRITERS}

    assert {flavour: one.cause for flavour, one in found.items()} == dict.fromkeys(WRITERS, layer)
    expected = findings(found["openai-chat"])
    for flavour, one in found.items():
        assert findings(one) == expected, flavour
    missing = {name for name, (verdict, _) in expected.items() if verdict == "missing"}
    assert missing == ({layer} if layer != "none" else set())


@pytest.mark.parametrize("flavour", WRITERS)
def test_steps_of_findings_are_places_in_the_input(flavour: str) -> None:
    """The step that is named is the record that holds the call, counted in the input."""
    told = FAULTY["sequencing"]
    (step,) = {
        step
        for one in said(read(flavour, told)).layers
        for found in one.findings
        for step in found.steps
    }

    assert "cancel_order" in json.dumps(steps_in(flavour, told)[step])


def steps_in(flavour: str, told: Story) -> list[Any]:
    """Return the messages or spans of a run, in the order of the input."""
    (first, *_) = documents = WRITERS[flavour](told)
    if "messages" in first:
        return list(first["messages"])
    if "observations" in first:
        return list(first["observations"])
    if "resourceSpans" in first:
        return list(first["resourceSpans"][0]["scopeSpans"][0]["spans"])
    return [one for one in documents if one.get("object") != "trace"]


@pytest.mark.parametrize("flavour", ["langfuse", "langsmith", "openai-agents"])
@pytest.mark.parametrize("layer", STORIES)
def test_a_list_with_the_newest_first_leads_to_the_same_verdict(flavour: str, layer: str) -> None:
    """Exports list the newest first as a rule: the order of a list is not that of a run."""
    told, form = STORIES[layer], _BY_NAME[flavour]
    records = [one for doc in WRITERS[flavour](told) for one in form.records(doc)]

    backwards = said(form.case(records[::-1], "file"))

    assert backwards.cause == layer
    assert findings(backwards) == findings(said(form.case(records, "file")))


@pytest.mark.parametrize("flavour", ["otlp", "langfuse", "langsmith", "openai-agents"])
@pytest.mark.parametrize("layer", STORIES)
def test_a_run_of_which_only_requests_were_recorded_leads_to_the_same_verdict(
    flavour: str, layer: str
) -> None:
    """Where no tool was instrumented, what prompts and answers say of calls is enough."""
    told, form = STORIES[layer], _BY_NAME[flavour]
    records = [one for doc in WRITERS[flavour](told) for one in form.records(doc)]
    asked = [one for one in records if not is_tool(one)]

    diagnosis = said(form.case(asked, "file"))

    assert len(asked) < len(records)
    assert diagnosis.cause == layer
    assert findings(diagnosis) == findings(said(form.case(records, "file")))


def is_tool(record: Any) -> bool:
    """Whether a record is that of a tool's call."""
    words = json.dumps({**record, "input": None, "inputs": None, "attributes": None})
    tools = ('"TOOL"', '"run_type": "tool"', '"type": "function", "name"', "execute_tool")
    return any(word in words for word in tools)


@pytest.mark.parametrize("flavour", WRITERS)
def test_a_file_is_recognised(flavour: str, tmp_path: Path) -> None:
    """The format of a file is guessed right, as one document and as lines of JSON."""
    documents = WRITERS[flavour](HEALTHY)
    whole, lines = tmp_path / "whole.json", tmp_path / "lines.jsonl"
    whole.write_text(json.dumps(documents if len(documents) > 1 else documents[0]))
    lines.write_text("".join(json.dumps(one) + "\n" for one in documents))

    for path in (whole, lines):
        cases = [one for one in read_cases(path, formats=FORMATS) if isinstance(one, Case)]
        assert [case.format for case in cases] == [flavour.partition(" ")[0]]
        assert said(cases[0]).cause == "none"


@pytest.mark.parametrize("flavour", WRITERS)
def test_runs_of_one_file_are_told_apart(flavour: str, tmp_path: Path) -> None:
    """A file of several runs, whose records stand between each other, gives each its verdict."""
    told = {
        f"run-{layer}": replace(one, name=f"run-{layer}")
        for layer, one in STORIES.items()
        if layer in {"none", "sequencing", "conflicts"}
    }
    written = [WRITERS[flavour](one) for one in told.values()]
    lines = [one for row in zip_longest(*written) for one in row if one is not None]
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))

    cases = [one for one in read_cases(path, formats=FORMATS) if isinstance(one, Case)]

    assert [said(case).cause for case in cases] == ["none", "sequencing", "conflicts"]
    if not flavour.startswith("otlp"):
        assert [case.trace_id for case in cases] == list(told)


# ---------------------------------------------------------------------------- our own


class Shop:
    """The tools of the stories, with their effects declared; they do what a story tells."""

    def __init__(self, told: Story) -> None:
        self.coming = [
            call for event in told.events if isinstance(event, Batch) for call in event.calls
        ]

        @uc.tool(peeks="user")
        async def find_user(email: str) -> Any:
            """Find a user."""
            return self._next("find_user")

        @uc.tool(reads="order/{order_id}")
        async def get_order(order_id: str) -> Any:
            """Look an order up."""
            return self._next("get_order")

        @uc.tool(writes="order/{order_id}")
        async def cancel_order(order_id: str) -> Any:
            """Cancel an order."""
            return self._next("cancel_order")

        @uc.tool(writes="order/{order_id}")
        async def set_order_address(order_id: str, address: str) -> Any:
            """Send an order elsewhere."""
            return self._next("set_order_address")

        @uc.handler(tools=[find_user, get_order, cancel_order, set_order_address])
        async def assist(turn: uc.Turn, message: str) -> str:
            turn.context.system(told.system)
            for event in told.events:
                if isinstance(event, User):
                    turn.context.user(event.text)
                    continue
                answer = await turn.model()
                if answer.calls:
                    await turn.calls(answer.calls)
            return answer.text

        self.assist = assist

    def _next(self, name: str) -> Any:
        found = next(call for call in self.coming if call.name == name)
        self.coming.remove(found)
        if found.error:
            raise RuntimeError(found.error)
        return found.result


def run(told: Story) -> tuple[Case, Case]:
    """Run a story under Undercroft; return its journal and the JSON of its trace, as read."""
    trace, events = traced(told)
    return ours.case_of(trace, events), ours.FORMAT.case([json.loads(to_json(trace))], "file")


def traced(told: Story) -> tuple[Trace, list[AnyEvent]]:
    """Run a story under Undercroft; return its trace and its events."""
    answers: list[Any] = []
    for event in told.events:
        if isinstance(event, Batch):
            answers.append([uc.Call(call.name, dict(call.arguments)) for call in event.calls])
        elif isinstance(event, Reply):
            answers.append(event.text)
    store, shop = MemoryStore(MemoryJournal()), Shop(told)

    async def play() -> list[Any]:
        model = ScriptedModel(answers)
        async with uc.Runtime(store, model=model, targets=[shop.assist]) as rt:
            outcome = await rt.run(shop.assist, message=HELLO)
            return decode_frames(store.frames(outcome.turn_id) or [])

    events = run_virtual(play())
    trace = trace_of(events)
    assert trace is not None
    return trace, events


def test_the_json_of_our_traces_is_recognised(tmp_path: Path) -> None:
    """What `show --json` prints is told from others' formats, one trace or a line each."""
    trace, _ = traced(HEALTHY)
    whole, lines = tmp_path / "whole.json", tmp_path / "lines.jsonl"
    whole.write_text(to_json(trace))
    lines.write_text(f"{json.dumps(json.loads(to_json(trace)))}\n" * 2)

    for path, count in ((whole, 1), (lines, 2)):
        cases = [one for one in read_cases(path, formats=FORMATS) if isinstance(one, Case)]
        assert [(one.format, one.trace_id) for one in cases] == [
            ("undercroft-json", trace.turn_id)
        ] * count


def test_our_journal_leads_to_the_same_verdict() -> None:
    """A healthy run is healthy in our journal and in the JSON of its trace too."""
    expected = findings(said(read("openai-chat", HEALTHY)))
    for case in run(HEALTHY):
        diagnosis = said(case)
        assert diagnosis.cause == "none"
        assert findings(diagnosis) == expected


def test_under_undercroft_what_comes_too_early_does_not_happen() -> None:
    """The same proposals, run by us: the write is refused, and the layer was there."""
    journal, printed = run(FAULTY["sequencing"])
    for case in (journal, printed):
        found = {one.layer: str(one.verdict) for one in said(case).layers}
        assert found["sequencing"] == "guard_fired"


@pytest.mark.parametrize("layer", ["sequencing", "parallelism"])
def test_under_undercroft_no_layer_that_acts_is_missing(layer: str) -> None:
    """What a guard prevents is never found missing in our own journal."""
    journal, _ = run(FAULTY[layer])
    found = {one.layer: str(one.verdict) for one in said(journal).layers}

    assert found[layer] != "missing"
