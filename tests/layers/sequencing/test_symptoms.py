"""Sequencing names steps taken before their time, and nothing that good agents do daily."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.layers import workers
from undercroft.doctor.effects import infer
from undercroft.layers.sequencing.symptoms import RULES, look
from undercroft.model.case import Access, CallStatus, Case, Facet, GuardAct, ToolRules
from undercroft.model.symptom import Rule, Sign

OWN = sorted(rule for rule in workers.FAULTS if rule.startswith("sequencing."))
EXAMPLES = 20
spans = st.booleans()


def missing(case: Case) -> set[str]:
    """Return the rules that a run breaks."""
    return {one.rule for one in look(infer(case)).symptoms if one.sign is Sign.MISSING}


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 10_000), spans=spans)
def test_healthy_agents_break_no_rule(seed: int, spans: bool) -> None:  # noqa: FBT001  drawn
    """What good agents do daily is no symptom."""
    assert not missing(workers.healthy(seed, spans=spans).case())


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("story", workers.STORIES, ids=lambda story: story.__name__)
def test_healthy_work_of_other_kinds_breaks_no_rule(
    story: workers.Story,
    timed: bool,  # noqa: FBT001  one of two
) -> None:
    """Editing files, moving money, sorting mail, browsing, polling, handing over: no symptom."""
    assert not missing(workers.told(story, spans=timed))


@pytest.mark.parametrize("rule", OWN)
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 10_000), spans=spans)
def test_each_fault_is_named_by_its_rule(rule: str, seed: int, spans: bool) -> None:  # noqa: FBT001
    """A run with one fault breaks that rule of the layer, and no other of its rules."""
    assert missing(workers.faulty(rule, seed, spans=spans).case()) == {rule}


@pytest.mark.parametrize("rule", sorted(set(workers.FAULTS) - set(OWN)))
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 10_000), spans=spans)
def test_faults_of_other_layers_are_not_ours(rule: str, seed: int, spans: bool) -> None:  # noqa: FBT001
    """A run with another layer's fault breaks no rule of this one."""
    assert not missing(workers.faulty(rule, seed, spans=spans).case())


def test_what_a_record_does_not_show_is_unseen() -> None:
    """Without calls as data no rule can be judged; without results not all can."""
    case = infer(workers.healthy(1).case())
    assert not look(replace(case, calls=(), shows=frozenset({Facet.USERS}))).observable
    bare = look(replace(case, shows=frozenset({Facet.CALLS})))
    assert set(bare.unseen) >= set(OWN) - {"sequencing.no_consent"}


def test_calls_of_which_nothing_is_known_break_no_rule() -> None:
    """Where nobody knows what writes, nothing that a writer should have done is missed."""
    case = workers.faulty(OWN[0], 3).case()
    calls = tuple(replace(call, access=Access.UNKNOWN, touches=()) for call in case.calls)
    found = {one.rule for one in look(replace(case, calls=calls)).symptoms}
    assert found <= {"sequencing.unknown_id", "sequencing.used_early"}


def test_a_guard_that_acted_is_said() -> None:
    """A refusal by a rule of this layer, and an act of its guards, show that it was there."""
    run = workers.healthy(2)
    run.call("cancel_order", {"order_id": "#A1001"}, "no", status=CallStatus.REFUSED)
    case = run.case(acts=(GuardAct(step=0, rule="sequencing.owned", quote="held"),))
    held = replace(case.calls[-1], rule="sequencing.some_rule")
    signs = look(infer(replace(case, calls=(*case.calls[:-1], held)))).symptoms
    fired = [one for one in signs if one.sign is Sign.FIRED]
    assert {one.rule for one in fired} == {"sequencing.refused"}
    assert [one.steps for one in fired] == [(0,), (held.step,)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_lines_that_add_the_layer_run(rule: Rule) -> None:
    """What is printed under a finding is code that runs, narrow enough for a terminal."""
    exec(compile(rule.lines, rule.name, "exec"), {"uc": uc})  # noqa: S102  it is ours
    assert all(len(line) <= 76 for line in rule.lines.splitlines())
    assert rule.says.endswith(".")
    assert rule.would.endswith(".")
    assert all(need in set(Facet) for need in rule.needs)


def test_a_long_run_is_looked_at_within_a_second() -> None:
    """Five thousand calls on a few records, by several actors, take no second a layer."""
    run = workers.Run()
    run.user("Go on.")
    for n in range(5_000):
        run.actor = f"agent {n % 5}"
        run.call("update_order", {"order_id": f"#A{n % 900 + 1000}", "city": f"c{n}"})
    case = infer(run.case())
    began = time.process_time()
    look(case)
    assert time.process_time() - began < 3


@settings(max_examples=EXAMPLES)
@given(text=st.text(st.characters(), max_size=60), spans=spans)
def test_hostile_texts_are_looked_at(text: str, spans: bool) -> None:  # noqa: FBT001  drawn
    """Lone surrogates, NUL and whatever else chance finds are text like any other."""
    run = workers.faulty(OWN[0], 5, spans=spans)
    run.user(text)
    run.call(text, {text: text, "order_id": text}, text)
    run.call("update_order", {"order_id": text, "x": [text, {"id": text}]}, text * 9)
    look(infer(run.case()))


def _bought(*said: str) -> workers.Run:
    run = workers.Run()
    run.system("Before any change you must obtain the user's explicit confirmation (yes).")
    run.user("Cancel #A1001 for me.")
    run.call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "state": "open"})
    for role, text in zip(("say", "user") * len(said), said, strict=False):
        getattr(run, role)(text)
    run.call("cancel_order", {"order_id": "#A1001"})
    return run


@pytest.mark.parametrize(
    "said",
    [
        ("I will cancel #A1001. Shall I?", "Yes."),
        ("Do you confirm that I cancel #A1001?", "Please go ahead"),
        ("Should I proceed?", "ok, do it"),
        ("Please confirm (yes) to proceed.", "Sounds good, thanks!"),
        ("Would you like me to cancel it?", "I'd love that"),
    ],
)
def test_a_yes_in_any_wording_is_consent(said: tuple[str, str]) -> None:
    """Whatever may be a yes to a question that may have been about the write counts as one."""
    assert not missing(_bought(*said).case())


@pytest.mark.parametrize(
    "said",
    [
        (),
        ("Which order do you mean?", "#A1001"),
        ("Shall I cancel #A1001?", "No, wait."),
        ("Shall I cancel #A1001?", "Hm, I am not sure yet."),
    ],
)
def test_no_yes_is_no_consent(said: tuple[str, ...]) -> None:
    """A write that the system's text demands a yes for is a symptom without one."""
    assert missing(_bought(*said).case()) == {"sequencing.no_consent"}


def test_nothing_is_demanded_that_no_text_demands() -> None:
    """Without a demand in so many words, nobody has to be asked."""
    run = _bought()
    case = run.case()
    texts = (replace(case.texts[0], text="You are kind."), *case.texts[1:])
    assert not missing(replace(case, texts=texts))


def test_declared_needs_and_consent_are_held() -> None:
    """What a user told of a tool is asked of its calls: what it needs, and a person's word."""
    run = workers.Run()
    run.user("Cancel #A1001, please.")
    run.call("get_order", {"order_id": "#A1002"}, {"order_id": "#A1002", "state": "open"})
    run.call("cancel_order", {"order_id": "#A1001"})
    rules = {"cancel_order": ToolRules(needs=("get_order",), consent=True)}
    assert missing(run.case(rules=rules)) >= {"sequencing.needs_unmet", "sequencing.no_consent"}


@pytest.mark.parametrize(
    ("found", "read"),
    [
        ([{"order_id": "#A1001", "state": "open"}], True),
        ([{"order_id": "#A1001"}, {"order_id": "#A1003"}], False),
        (["#A1001", "#A1003"], False),
        ("#A1001 is open and waits for payment.", True),
        ("2 orders: #A1001, #A1003.", False),
    ],
)
def test_a_list_is_a_read_of_what_it_shows_the_state_of(found: object, read: bool) -> None:  # noqa: FBT001
    """A list of ids shows nothing of what they name; a list of records does."""
    run = workers.Run()
    run.user("Look at #A1003, and cancel #A1001.")
    run.call("get_order", {"order_id": "#A1003"}, {"order_id": "#A1003", "state": "open"})
    run.call("list_orders", {"customer": "Ada"}, found)
    run.call("cancel_order", {"order_id": "#A1001"})
    assert missing(run.case()) == (set() if read else {"sequencing.write_before_read"})


def test_what_may_have_been_shown_is_not_invented() -> None:
    """After a result that is missing or cut off, no id counts as never seen."""
    for result in (None, '{"orders": ["#A1001", "#A10… [truncated]', ""):
        run = workers.Run()
        run.user("Look at my orders.")
        run.call("list_orders", {"customer": "Ada"}, result)
        run.call("get_order", {"order_id": "#A1002"}, {"order_id": "#A1002", "state": "open"})
        assert not missing(run.case())


@pytest.mark.parametrize("said", ["#A1001", "order A1001", "number 1001", "id: a1001!"])
def test_an_id_in_other_spelling_was_said(said: str) -> None:
    """People leave out marks and letters of an id; it is no invented one for that."""
    run = workers.Run()
    run.user(f"Look at {said}")
    run.call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "state": "open"})
    assert not missing(run.case())


@pytest.mark.parametrize(
    "said",
    [
        ("Shall I cancel order #A1001 (yes/no)?", "No, leave it as it is."),
        ("Do you want me to cancel #A1001?", "Stop, don't do that."),
    ],
)
def test_a_plain_no_needs_no_policy(said: tuple[str, str]) -> None:
    """What a user had just refused was done without consent, whatever the system demands."""
    run = workers.Run()
    run.user("What about order #A1001?")
    run.call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "status": "open"})
    run.say(said[0])
    run.user(said[1])
    run.call("cancel_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "status": "gone"})
    assert missing(run.case()) == {"sequencing.no_consent"}


def test_who_refuses_and_wants_another_thing_gets_it() -> None:
    """A no that goes on to say what is wanted instead forbids nothing that nobody demands."""
    run = workers.Run()
    run.user("What about my orders #A1001 and #A1002?")
    for one in ("#A1001", "#A1002"):
        run.call("get_order", {"order_id": one}, {"order_id": one, "status": "open"})
    run.say("Shall I cancel #A1001?")
    run.user("No, cancel #A1002 instead.")
    run.call("cancel_order", {"order_id": "#A1002"}, {"order_id": "#A1002", "status": "gone"})
    assert not missing(run.case())


def test_who_answers_with_a_question_has_not_agreed() -> None:
    """A question is no yes, also where one had been said to an earlier offer."""
    said = ("Shall I cancel #A1001?", "Yes.", "It costs a fee. Please confirm.", "How much is it?")
    assert missing(_bought(*said).case()) == {"sequencing.no_consent"}


@pytest.mark.parametrize(
    ("demand", "held"),
    [
        ("Obtain consent from the guest prior to altering an order.", True),
        ("Never cancel anything without asking.", True),
        ("Every change needs the tenant's go-ahead.", True),
        ("Ask the user for the order id before looking it up.", False),
        ("You may cancel orders without asking.", False),
        ("Refunds above 50 require approval by a manager.", False),
    ],
)
def test_a_demand_is_read_in_any_wording(demand: str, held: bool) -> None:  # noqa: FBT001
    """Whose word is demanded before a change, and what only sounds like it, is told apart."""
    case = _bought().case()
    texts = (replace(case.texts[0], text=demand), *case.texts[1:])
    assert bool(missing(replace(case, texts=texts))) is held


def test_an_id_of_whatever_parameter_was_used_early() -> None:
    """What another call of the batch returns only afterwards was early; a placeholder is, too."""
    run = workers.Run()
    run.user("Open a case and note it.")
    run.batch(
        workers.Asked("create_case", {"subject": "x"}, '{"case": "CS-88231"}'),
        workers.Asked("add_note", {"case": "CS-88231", "text": "called"}, "ok"),
    )
    assert "sequencing.used_early" in missing(run.case())
    run = workers.Run()
    run.user("Close my ticket.")
    run.batch(
        workers.Asked("find_ticket", {"email": "ada@example.com"}, '{"ticket_id": "TK-8841"}'),
        workers.Asked("close_ticket", {"ticket_id": "<ticket_id from find_ticket>"}, "Error: no"),
    )
    assert "sequencing.used_early" in missing(run.case())


def test_what_the_run_itself_made_need_not_be_read() -> None:
    """A write that undoes another of the run needs no read, nor does a caller's own request id."""
    run = workers.Run()
    run.user("Book FL-20.")
    run.call("get_flight", {"flight_id": "FL-20"}, {"flight_id": "FL-20", "free": 1})
    given = {"flight_id": "FL-20", "request_id": "b7c1e9d2-3c55-4f0e-8a51-77f1f0d8c111"}
    run.call("book_flight", given, {"booking": "BK-10"})
    run.call("cancel_booking", {"booking": "BK-10"}, {"ok": True})
    assert not missing(run.case())


def test_a_blind_change_is_a_symptom_where_nothing_says_that_nothing_reads() -> None:
    """A run that only changes a record never looked at it; who switches a thing need not."""
    run = workers.Run()
    run.user("Cancel OR-5512.")
    run.call("cancel_order", {"order_id": "OR-5512"}, {"ok": True})
    assert missing(run.case()) == {"sequencing.write_before_read"}
    assert not missing(replace(run.case(), tools=frozenset({"cancel_order"})))
    run = workers.Run()
    run.user("Switch lamp-35 on.")
    run.call("set_lamp", {"lamp_id": "lamp-35", "on": True}, {"ok": True})
    assert not missing(run.case())
