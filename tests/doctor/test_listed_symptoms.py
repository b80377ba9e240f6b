"""Every symptom that the doctor promises to know, in the smallest run that shows it.

Beside each stands a run that looks much the same and is healthy: what agents do daily is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from tests.doctor.stories import Call, Story, User, story
from tests.doctor.writers import WRITERS
from undercroft.doctor.effects import infer
from undercroft.doctor.importers import FORMATS
from undercroft.doctor.report import Diagnosis
from undercroft.doctor.verdict import examine

Span = dict[str, Any]
_FORMS = {form.name: form for form in FORMATS}

# ---------------------------------------------------------------------------- what the runs are of

LOAN = {"loan_id": "LN-40712"}
OTHER = {"loan_id": "LN-50823"}
LOOK = Call("get_loan", LOAN, {**LOAN, "due": "2026-02-11", "note": ""})
RENEW = Call("renew_loan", LOAN, {**LOAN, "due": "2026-03-04"})
ASKED = "Please renew my loan LN-40712."
RENEWED = "I have renewed your loan LN-40712; it is due on March 4."
POLICY = "You must get the explicit confirmation of the user (yes) before any change."
SEARCH = Call("search_catalogue", {"title": "Middlemarch"}, {"found": ["BK-1001"]})
DOWN = replace(SEARCH, error="503 service unavailable")
BROKEN = replace(SEARCH, error="there is no index of titles")
SORRY = "I am sorry, I could not look that up."
CUT = '{"loans": ["LN-40712", "LN-50823", "LN-6... [truncated]'


def update(**fields: str) -> Call:
    """Return a change of fields of the loan."""
    return Call("update_loan", {**LOAN, **fields}, {"ok": True})


def send(result: str = "Mail sent.", error: str = "") -> Call:
    """Return a mail that goes out."""
    mail = {"to": "ada@example.com", "body": "Your book is here."}
    return Call("send_mail", mail, result, error=error)


def told_first(system: str, told: Story) -> Story:
    """Return a run whose agent was told something first."""
    return replace(told, system=system)


# ---------------------------------------------------------------------------- chats

# By the words of the symptom: the layer, the rule, a run that shows it, and one that does not.
CHATS: Mapping[str, tuple[str, Story, Story]] = {
    "write before any read of that id": (
        "sequencing.write_before_read",
        story(
            "How is LN-50823? And renew LN-40712.",
            replace(LOOK, arguments=OTHER, result=OTHER),
            RENEW,
            RENEWED,
        ),
        story(ASKED, LOOK, RENEW, RENEWED),
    ),
    "write, and only then the read of that id": (
        "sequencing.write_before_read",
        story(ASKED, RENEW, LOOK, RENEWED),
        story(ASKED, LOOK, RENEW, LOOK, RENEWED),
    ),
    "id never seen before": (
        "sequencing.unknown_id",
        story("What did I borrow last?", LOOK, "It is due on February 11."),
        story(
            "What did I borrow last? I am ada@example.com.",
            Call("find_loans", {"email": "ada@example.com"}, {"loans": ["LN-40712"]}),
            LOOK,
            "It is due on February 11.",
        ),
    ),
    "id with two figures changed about": (
        "sequencing.unknown_id",
        story("When is LN-40721 due?", LOOK, "On February 11."),
        story("When is ln-40712 due?", LOOK, "On February 11."),
    ),
    "result used before its producer ended": (
        "sequencing.used_early",
        story(
            "Which loan has ada@example.com, and when is it due?",
            [Call("find_loan", {"email": "ada@example.com"}, LOAN), LOOK],
            "LN-40712, on February 11.",
        ),
        story(
            "Which loan has ada@example.com, and when is it due?",
            Call("find_loan", {"email": "ada@example.com"}, LOAN),
            LOOK,
            "LN-40712, on February 11.",
        ),
    ),
    "consent missing": (
        "sequencing.no_consent",
        told_first(POLICY, story(ASKED, LOOK, RENEW, RENEWED)),
        told_first(
            POLICY,
            story(
                ASKED,
                LOOK,
                "I will renew LN-40712 until March 4. Do you confirm (yes/no)?",
                "Yes",
                RENEW,
                RENEWED,
            ),
        ),
    ),
    "writes in one batch on one resource": (
        "parallelism.overlapping_writes",
        story(
            "Note 'call first' on LN-40712 and lend it to Ada.",
            LOOK,
            [update(note="call first"), update(holder="Ada")],
            "Both are entered.",
        ),
        story(
            "Note 'call first' on LN-40712 and on LN-50823.",
            [LOOK, replace(LOOK, arguments=OTHER, result=OTHER)],
            [
                update(note="call first"),
                Call("update_loan", {**OTHER, "note": "call first"}, {"ok": True}),
            ],
            "Both are entered.",
        ),
    ),
    "same field, different values in a turn": (
        "conflicts.same_field",
        story(
            "Let me return LN-40712 at the branch north.",
            LOOK,
            update(branch="north"),
            update(branch="south"),
            "The branch is entered.",
        ),
        story(
            "Let me return LN-40712 at the branch north.",
            LOOK,
            update(branch="north"),
            "The branch is entered.",
            "No, at south, please.",
            update(branch="south"),
            "The branch is changed.",
        ),
    ),
    "identical write succeeding twice": (
        "conflicts.write_twice",
        story("Tell ada@example.com: Your book is here.", send(), send(), "I have told her."),
        story(
            "Tell ada@example.com: Your book is here.",
            send(error="429 too many requests, nothing was sent; retry after 2 s"),
            Call("wait", {"seconds": 2}, "waited"),
            send(),
            "I have told her.",
        ),
    ),
    "identical call after failure with nothing changed": (
        "breakers.repeat_after_failure",
        story("Have you Middlemarch?", BROKEN, BROKEN, SORRY),
        story("Have you Middlemarch?", DOWN, SEARCH, "Yes, BK-1001."),
    ),
    "three failures in a row": (
        "breakers.failures_in_row",
        story(
            "Have you anything by Eliot?",
            *(
                Call("search_catalogue", {"author": name}, error="500 internal server error")
                for name in ("Eliot", "George Eliot", "G. Eliot")
            ),
            SORRY,
        ),
        story(
            "Have you anything by Eliot?",
            *(
                Call("search_catalogue", {"author": name}, {"found": []})
                for name in ("Eliot", "George Eliot", "G. Eliot")
            ),
            "We have nothing by Eliot.",
        ),
    ),
    "retry of what can't be retried": (
        "breakers.retried_permanent",
        story(
            "When is LN-40712 due?",
            replace(LOOK, error="403 permission denied"),
            replace(LOOK, error="403 permission denied"),
            SORRY,
        ),
        story(
            "When is LN-40712 due?",
            Call("get_loan", {"loan_id": 40712}, error="loan_id must be text"),
            LOOK,
            "On February 11.",
        ),
    ),
    "retry of a write of which nobody knows what came": (
        "breakers.blind_rewrite",
        story(ASKED, LOOK, replace(RENEW, error="request timed out"), RENEW, RENEWED),
        story(
            ASKED,
            LOOK,
            replace(RENEW, error="request timed out"),
            LOOK,
            RENEW,
            RENEWED,
        ),
    ),
    "no end state": (
        "breakers.no_end_state",
        story(ASKED, LOOK, replace(LOOK, error="503 service unavailable")),
        story(ASKED, LOOK, RENEW, RENEWED, User("Thanks, bye.")),
    ),
    "same read again with no write between": (
        "context.read_again",
        story("When is LN-40712 due?", LOOK, SEARCH, LOOK, "On February 11."),
        story(
            "When is LN-40712 due?",
            LOOK,
            "On February 11.",
            "And now?",
            LOOK,
            "Still on February 11.",
        ),
    ),
    "user asked for a known fact": (
        "context.asked_again",
        story(
            "My email address is ada@example.com. What have I borrowed?",
            "What is your email address?",
            "ada@example.com, as I said.",
            Call("find_loan", {"email": "ada@example.com"}, LOAN),
            "You have LN-40712.",
        ),
        story(
            "My email address is ada@example.com. What have I borrowed?",
            "Is ada@example.com the address with which you signed up?",
            "Yes.",
            Call("find_loan", {"email": "ada@example.com"}, LOAN),
            "You have LN-40712.",
        ),
    ),
    "window overflow error": (
        "context.window_full",
        story(
            "Sum up the log.",
            Call("read_log", {"name": "all"}, "09:00 opened"),
            "Error code: 400 - This model's maximum context length is 8192 tokens. However, "
            "you requested 9000 tokens.",
        ),
        story(
            "What is the longest context that a model has?",
            Call("search_catalogue", {"title": "models"}, "Some have 8192 tokens."),
            "Some have 8192 tokens, others more.",
        ),
    ),
    "truncated result used": (
        "context.cut_result_used",
        story(
            "Which loans are there, and when is the last due?",
            Call("list_loans", {}, CUT),
            LOOK,
            "There are LN-40712 and LN-50823; LN-40712 is due on February 11.",
        ),
        story(
            "Which loans are there, and when is the last due?",
            Call("list_loans", {"from": 0}, '{"loans": ["LN-40712", "LN-50823"], "next": 2}'),
            Call("list_loans", {"from": 2}, '{"loans": ["LN-60934"], "next": null}'),
            "There are LN-40712, LN-50823 and LN-60934.",
        ),
    ),
    "call without result": (
        "observability.no_result",
        story(
            "When is LN-40712 due, and have you Middlemarch?",
            [LOOK, replace(SEARCH, result=None)],
            "On February 11.",
        ),
        story(
            "When is LN-40712 due, and have you Middlemarch?",
            [LOOK, replace(SEARCH, result="")],
            "On February 11.",
        ),
    ),
    "success told after a failed write": (
        "observability.success_told",
        story(ASKED, LOOK, replace(RENEW, error="the loan is reserved for others"), RENEWED),
        story(
            ASKED,
            LOOK,
            replace(RENEW, error="the loan is reserved for others"),
            "I could not renew LN-40712: it is reserved for others.",
        ),
    ),
    "success told after a missing write": (
        "observability.success_told",
        story(ASKED, LOOK, RENEWED),
        story(ASKED, LOOK, "It is due on February 11. I can renew it; shall I?", User("Not yet.")),
    ),
}


def diagnosed(told: Story, flavour: str = "openai-chat") -> Diagnosis:
    """Return what the doctor says of a run that was written down by a system."""
    return read(flavour, WRITERS[flavour](told))


def read(flavour: str, documents: list[Any]) -> Diagnosis:
    """Return what the doctor says of what a system wrote down."""
    form = _FORMS[flavour.partition(" ")[0]]
    return examine(infer(form.case([one for doc in documents for one in form.records(doc)], "f")))


def missing(found: Diagnosis) -> dict[str, set[str]]:
    """Return the rules that were broken, by layer."""
    return {
        one.layer: {evidence.rule.name for evidence in one.findings}
        for one in found.layers
        if str(one.verdict) == "missing"
    }


@pytest.mark.parametrize("flavour", ["openai-chat", "anthropic-chat"])
@pytest.mark.parametrize("words", CHATS)
def test_a_listed_symptom_is_found_in_a_chat(words: str, flavour: str) -> None:
    """A symptom is found in the smallest chat that shows it, and its layer is the cause."""
    rule, told, _ = CHATS[words]
    found = diagnosed(told, flavour)
    layer = rule.partition(".")[0]

    assert rule in missing(found).get(layer, set())
    assert found.cause == layer
    assert found.first_deviation is not None


@pytest.mark.parametrize("flavour", WRITERS)
@pytest.mark.parametrize("words", CHATS)
def test_what_looks_like_a_symptom_is_none(words: str, flavour: str) -> None:
    """A healthy run that looks much the same is clean, whoever recorded it."""
    found = diagnosed(CHATS[words][2], flavour)

    assert missing(found) == {}
    assert found.cause == "none"


def test_reads_one_after_the_other_are_waste_and_no_cause() -> None:
    """Serial reads whose arguments were all known are pointed out, and no layer was missing."""
    told = story(
        "When are LN-40712 and LN-50823 due?",
        LOOK,
        replace(LOOK, arguments=OTHER, result={**OTHER, "due": "2026-02-12"}),
        "On February 11 and 12.",
    )
    found = diagnosed(told)
    hints = {hint.rule.name for one in found.layers for hint in one.hints}

    assert hints == {"parallelism.serial_reads"}
    assert (missing(found), found.cause) == ({}, "none")


# ---------------------------------------------------------------------------- spans

STORY = told_first(
    POLICY,
    story(
        "Please renew my loan LN-40712 and lend it to Ada.",
        LOOK,
        "I will renew LN-40712 until March 4 and enter Ada. Do you confirm?",
        "Yes, please.",
        RENEW,
        update(holder="Ada"),
        "Both are done.",
    ),
)
Edit = Callable[[list[Span]], None]


def of_kind(spans: list[Span], kind: str) -> list[Span]:
    """Return the spans of one kind of operation, in order."""
    wanted = {"key": "gen_ai.operation.name", "value": {"stringValue": kind}}
    return [one for one in spans if wanted in one["attributes"]]


def tool(spans: list[Span], name: str) -> Span:
    """Return the span of the first call of a tool."""
    wanted = {"key": "gen_ai.tool.name", "value": {"stringValue": name}}
    return next(one for one in spans if wanted in one["attributes"])


def without(span: Span, key: str) -> None:
    """Take an attribute away."""
    span["attributes"] = [one for one in span["attributes"] if one["key"] != key]


def having(span: Span, key: str, **value: str) -> None:
    """Set an attribute."""
    without(span, key)
    span["attributes"].append({"key": key, "value": value})


def acting(**actors: str) -> Edit:
    """Return an edit that says who called each tool."""

    def edit(spans: list[Span]) -> None:
        for name, actor in actors.items():
            having(tool(spans, name), "gen_ai.agent.name", stringValue=actor)

    return edit


def together(spans: list[Span]) -> None:
    """Let the second write begin before the first one ends."""
    first, second = tool(spans, "renew_loan"), tool(spans, "update_loan")
    second["startTimeUnixNano"] = str(int(first["endTimeUnixNano"]) - 100_000_000)


def touching(spans: list[Span]) -> None:
    """Let the second write begin as the first one ends."""
    first, second = tool(spans, "renew_loan"), tool(spans, "update_loan")
    second["startTimeUnixNano"] = first["endTimeUnixNano"]


def no_end(spans: list[Span]) -> None:
    """Lose what one call came to."""
    one = tool(spans, "renew_loan")
    one["status"] = {}
    one.pop("endTimeUnixNano")
    without(one, "gen_ai.tool.call.result")


def no_time(spans: list[Span]) -> None:
    """Lose the times of one call."""
    for key in ("startTimeUnixNano", "endTimeUnixNano"):
        tool(spans, "renew_loan").pop(key)


def no_times(spans: list[Span]) -> None:
    """Lose all times, as a format does that has none."""
    for one in spans:
        one.pop("startTimeUnixNano")
        one.pop("endTimeUnixNano")


def no_prompt(spans: list[Span]) -> None:
    """Lose one prompt of several."""
    without(of_kind(spans, "chat")[1], "gen_ai.input.messages")
    without(of_kind(spans, "chat")[1], "gen_ai.system_instructions")


def no_prompts(spans: list[Span]) -> None:
    """Lose all prompts, as an exporter does that leaves content out."""
    for one in of_kind(spans, "chat"):
        without(one, "gen_ai.input.messages")
        without(one, "gen_ai.system_instructions")


def full(spans: list[Span]) -> None:
    """Let the last prompt fill the window of its model."""
    having(of_kind(spans, "chat")[-1], "gen_ai.request.model", stringValue="gpt-4o")
    having(of_kind(spans, "chat")[-1], "gen_ai.usage.input_tokens", intValue="126500")


def half_full(spans: list[Span]) -> None:
    """Let the last prompt fill half the window of its model."""
    having(of_kind(spans, "chat")[-1], "gen_ai.request.model", stringValue="gpt-4o")
    having(of_kind(spans, "chat")[-1], "gen_ai.usage.input_tokens", intValue="60000")


def unpinned(spans: list[Span]) -> None:
    """Leave out of the last prompt what the model was told first."""
    without(of_kind(spans, "chat")[-1], "gen_ai.system_instructions")


def same(_: list[Span]) -> None:
    """Change nothing."""


ONE_ACTOR = acting(get_loan="Desk", renew_loan="Desk", update_loan="Desk")
# By the words of the symptom: the rule, an edit that shows it, and one that does not.
SPANS: Mapping[str, tuple[str, Edit, Edit]] = {
    "writes overlapping on one resource": ("parallelism.overlapping_writes", together, touching),
    "two actors on one resource": (
        "conflicts.two_actors",
        acting(get_loan="Desk", renew_loan="Desk", update_loan="Archive"),
        ONE_ACTOR,
    ),
    "call without time": ("observability.no_time", no_time, no_times),
    "call without status": ("observability.no_status", no_end, same),
    "request without prompt": ("observability.no_prompt", no_prompt, no_prompts),
    "window nearly full": ("context.window_full", full, half_full),
    "pinned item gone": ("context.pin_gone", unpinned, same),
}


def spans_of(told: Story, edit: Edit) -> Diagnosis:
    """Return what the doctor says of a run whose spans were edited."""
    documents = deepcopy(WRITERS["otlp"](told))
    edit(documents[0]["resourceSpans"][0]["scopeSpans"][0]["spans"])
    return read("otlp", documents)


@pytest.mark.parametrize("words", SPANS)
def test_a_listed_symptom_is_found_in_spans(words: str) -> None:
    """A symptom is found in spans that show it, in its layer and no other, which is the cause."""
    rule, edit, _ = SPANS[words]
    found = spans_of(STORY, edit)
    layer = rule.partition(".")[0]

    assert set(missing(found)) == {layer}
    assert rule in missing(found)[layer]
    assert found.cause == layer


@pytest.mark.parametrize("words", SPANS)
def test_spans_that_look_like_a_symptom_are_none(words: str) -> None:
    """Healthy spans that look much the same are clean; what none of them shows is no finding."""
    assert missing(spans_of(STORY, SPANS[words][2])) == {}


@pytest.mark.parametrize("reads_again", [False, True])
def test_a_write_after_another_writes_needs_a_fresh_read(*, reads_again: bool) -> None:
    """Who writes after another actor's write, and did not read since, writes on what is gone."""
    between = [replace(LOOK, result={**LOAN, "due": "2026-03-04", "note": ""})] * reads_again
    told = story(ASKED, LOOK, LOOK, RENEW, *between, update(holder="Ada"), "Both are done.")

    def edit(spans: list[Span]) -> None:
        reads = [one for one in of_kind(spans, "execute_tool") if "get_loan" in one["name"]]
        for one, actor in zip(reads, ("Desk", "Archive", "Archive"), strict=False):
            having(one, "gen_ai.agent.name", stringValue=actor)
        acting(renew_loan="Desk", update_loan="Archive")(spans)

    found = missing(spans_of(told, edit))

    assert ("conflicts" in found) is not reads_again
    assert set(found) <= {"conflicts"}


NOTHING: Mapping[str, list[Any]] = {
    "openai-chat": [{"trace_id": "run-1", "messages": [], "error": "RuntimeError: worker lost"}],
    "langsmith": [
        {
            "id": "1",
            "trace_id": "1",
            "name": "agent",
            "run_type": "chain",
            "start_time": "2026-01-01T00:00:00Z",
            "end_time": "2026-01-01T00:00:01Z",
            "inputs": {"input": "Renew my loan."},
            "outputs": None,
            "error": "ConnectionError: worker lost",
            "status": "error",
        }
    ],
}


@pytest.mark.parametrize("flavour", NOTHING)
def test_an_error_with_no_steps_is_a_finding(flavour: str) -> None:
    """A run of which only the error that ended it is left lacked observability."""
    found = read(flavour, NOTHING[flavour])

    assert missing(found) == {"observability": {"observability.no_steps"}}
    assert found.cause == "observability"
