"""Conflicts names writes that undo, repeat or overtake each other, and no others."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.layers import workers
from undercroft.doctor.effects import infer
from undercroft.layers.conflicts.symptoms import RULES, look
from undercroft.model.case import Access, CallStatus, Case, Facet, GuardAct, ToolRules
from undercroft.model.symptom import Rule, Sign

OWN = sorted(rule for rule in workers.FAULTS if rule.startswith("conflicts."))
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
    case = run.case(acts=(GuardAct(step=0, rule="conflicts.owned", quote="held"),))
    held = replace(case.calls[-1], rule="conflicts.some_rule")
    signs = look(infer(replace(case, calls=(*case.calls[:-1], held)))).symptoms
    fired = [one for one in signs if one.sign is Sign.FIRED]
    assert {one.rule for one in fired} == {"conflicts.refused"}
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


def _paid(*between: str, told: bool = False) -> Case:
    run = workers.Run()
    run.user("Pay 20 for #A1001.")
    for _ in range(2):
        run.call("pay_order", {"order_id": "#A1001", "cents": 2000}, {"receipt": "R-1"})
        for words in between:
            run.user(words)
    rules = {"pay_order": ToolRules(idempotent=told)}
    return run.case(rules=rules)


def test_a_payment_made_twice_is_a_symptom_unless_somebody_wanted_it() -> None:
    """The same write twice is a fault, but not on a user's wish or where it does no harm."""
    assert missing(_paid()) == {"conflicts.write_twice"}
    assert not missing(_paid("Pay the same again, please."))
    assert not missing(_paid(told=True))


def test_a_payment_made_twice_in_one_batch_is_a_symptom() -> None:
    """Side by side too: what is paid, sent or booked twice stays so."""
    run = workers.Run()
    run.user("Pay 20 for #A1001.")
    pay = workers.Asked("pay_order", {"order_id": "#A1001", "cents": 2000})
    run.batch(pay, pay)
    assert missing(run.case()) == {"conflicts.write_twice"}


def test_a_write_under_a_key_of_its_own_may_be_repeated() -> None:
    """An idempotency key among the arguments says that the repetition does nothing."""
    run = workers.Run()
    run.user("Pay.")
    for _ in range(2):
        run.call("pay", {"invoice_id": "INV-1001", "idempotency_key": "k-1"}, "paid")
    assert not missing(run.case())


def test_a_version_that_is_old_is_stale() -> None:
    """A write that names a version which is not the latest shown rests on an old state."""
    run = workers.Run()
    run.user("Change #A1001.")
    for version in (7, 8):
        run.call("get_order", {"order_id": "#A1001"}, {"order_id": "#A1001", "version": version})
    run.call("update_order", {"order_id": "#A1001", "city": "Ely", "version": 7})
    assert missing(run.case()) == {"conflicts.stale_write"}


@pytest.mark.parametrize(
    "words", ["409 Conflict", "Error: version conflict", "The order was already cancelled"]
)
def test_a_foreign_guard_is_recognised_by_its_words(words: str) -> None:
    """A system that refused a write for such a reason had a guard, and it acted."""
    run = workers.Run()
    run.user("Cancel #A1001.")
    run.call("cancel_order", {"order_id": "#A1001"}, words, status=CallStatus.FAILED)
    (one,) = look(infer(run.case())).symptoms
    assert (one.rule, one.sign) == ("conflicts.refused", Sign.FIRED)


@pytest.mark.parametrize(
    ("name", "field", "values", "names"),
    [
        ("adjust_vents", "percent", (30, 35), 1),
        ("vents_adjust", "percent", (30, 35), 1),
        ("adjust_vents", "by", (30, 35), 0),
        ("vents_add", "percent", (30, 35), 0),
        ("edit_vents", "text", ("Call 4499.", "Call 4498."), 1),
        ("edit_vents", "text", ("Call 4499. " * 9, "Call 4498. " * 9), 0),
    ],
)
def test_a_second_value_is_a_symptom_unless_it_adds_up(
    name: str, field: str, values: tuple[object, object], names: int
) -> None:
    """What is set to this and then to that has lost this; what grows or is revised has not."""
    run = workers.Run()
    run.user("Open the vents of V-404.")
    run.call("get_vents", {"vents_id": "V-404"}, {"vents_id": "V-404", "percent": 1})
    for value in values:
        run.call(name, {"vents_id": "V-404", field: value})
    assert missing(run.case()) == ({"conflicts.same_field"} if names else set())
