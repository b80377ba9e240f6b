"""What observability looks for in a finished run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import undercroft as uc
from tests.layers.agents import READ, TRADES, UNKNOWN, WRITE, Log, Trade, healthy
from undercroft.layers.observability.sentences import claimed
from undercroft.layers.observability.symptoms import RULES, look
from undercroft.model.case import Basis, CallStatus, Case, CaseAsk, Facet, Flaw
from undercroft.model.symptom import Rule, Sign

LOCKED = "Error: the record is locked and cannot be changed"


def found(case: Case, sign: Sign = Sign.MISSING) -> list[str]:
    """Return the names of rules that a run shows to be broken."""
    return [one.rule for one in look(case).symptoms if one.sign is sign]


def begun(wish: str = "Please cancel my order #A1001.") -> Log:
    """Return a run in which the user has said what is wanted, and it was looked up."""
    log = Log()
    log.user(wish)
    log.call("get_order", {"order_id": "#A1001"}, '{"order_id": "#A1001", "sum": 31.5}')
    return log


@given(st.integers(0, 1_000_000))
def test_what_healthy_agents_do_is_no_symptom(seed: int) -> None:
    """Saying what was done, and what could not be done, is what users are to be told."""
    assert look(healthy(seed).case()).symptoms == ()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_lines_of_a_rule_run(rule: Rule) -> None:
    """The code that a rule shows is code, and fits beside what prints it."""
    exec(rule.lines, {"uc": uc})  # noqa: S102  that it runs is what is tested
    assert all(len(line) <= 76 for line in rule.lines.splitlines())
    assert rule.name.startswith("observability.")
    assert set(rule.needs) <= {str(facet) for facet in Facet}


class TestSuccessTold:
    """The user is told of what did not happen."""

    @pytest.mark.parametrize("trade", TRADES, ids=lambda trade: trade.thing)
    @pytest.mark.parametrize("made", [True, False])
    def test_in_every_trade(self, trade: Trade, made: bool) -> None:  # noqa: FBT001
        """A change whose write failed, or was never made, is no change to be told of."""
        log = Log()
        one = trade.ids[0]
        log.user(trade.wish % one)
        log.call(trade.look, {trade.key: one}, trade.state % one)
        if made:
            failed = log.call(trade.change, {trade.key: one}, error=LOCKED, access=WRITE)
        told = log.say(trade.done % one)
        symptoms = [s for s in look(log.case()).symptoms if s.rule == "observability.success_told"]
        if made:
            assert [s.steps for s in symptoms] == [(told, failed)]
        elif trade.thing not in {"ticket", "branch", "contact"}:
            assert [s.steps for s in symptoms] == [(told,)]

    @pytest.mark.parametrize("trade", TRADES, ids=lambda trade: trade.thing)
    def test_it_was_owned_up_to(self, trade: Trade) -> None:
        """Whoever says that it failed has told the truth."""
        log = Log()
        one = trade.ids[0]
        log.user(trade.wish % one)
        log.call(trade.change, {trade.key: one}, error=LOCKED, access=WRITE)
        log.say(trade.undone % one)
        assert found(log.case()) == []

    @pytest.mark.parametrize(
        "text",
        [
            "I can cancel order #A1001 for you. Shall I?",
            "Once your order has been cancelled you will get a mail.",
            "If it has been cancelled, the money is on its way.",
            "Your order has not been cancelled.",
            "I will cancel it and let you know when it has been cancelled.",
            "Has your order been cancelled by somebody else?",
            "I could not cancel it; it has been handed to the carrier.",
            "I have found your order and checked its state.",
            "I have transferred you to a human agent.",
            "I've added a summary of your order below.",
            "Orders that have been shipped cannot be cancelled.",
            "I see that the order has been cancelled before.",
            "I've added order #A1001 to the list below.",
            "I have changed the wording of the summary of #A1001.",
        ],
    )
    def test_what_is_no_claim(self, text: str) -> None:
        """An offer, a plan, a condition, a denial, a question or a report claims nothing."""
        log = begun()
        log.say(text)
        assert found(log.case()) == []

    @pytest.mark.parametrize(
        ("wish", "text"),
        [
            ("My order is #A1001. I moved to Ely.", "I have changed the city of #A1001 to Ely."),
            ("My order is #A1001. The sum is 30.", "I've corrected your sum to 30."),
            ("Mark #A1001 as returned.", "The order #A1001 has been marked as returned."),
            ("Remove item ITM-7 from #A1001.", "I removed it; two are left."),
        ],
    )
    def test_of_a_record_that_was_only_read(self, wish: str, text: str) -> None:
        """A field of a record, and what was asked to be done to it, are changed by a write only."""
        log = begun(wish)
        log.say(text)
        assert found(log.case()) == ["observability.success_told"]
        log = begun(wish)
        log.call("update_order", {"order_id": "#A1001", "to": "x"}, "ok", access=WRITE)
        log.say(text)
        assert found(log.case()) == []

    def test_a_record_says_so(self) -> None:
        """What a record that was read says may be told, and so may what the user said."""
        log = Log()
        log.user("Please cancel what can be cancelled.")
        log.call("get_order", {"order_id": "#A1001"}, '{"id": "#A1001", "state": "cancelled"}')
        log.say("Your order #A1001 has been cancelled.")
        assert found(log.case()) == []

    def test_a_later_success(self) -> None:
        """A write that failed and was then made well is done, also with mended arguments."""
        log = begun()
        log.call("cancel_order", {"order_id": "#A1001"}, error=LOCKED, access=WRITE)
        log.call("cancel_order", {"order_id": "#A1001", "why": "asked"}, "ok", access=WRITE)
        log.say("Your order #A1001 has been cancelled.")
        assert found(log.case()) == []

    def test_another_way(self) -> None:
        """What another tool did after the failure may be what is told."""
        log = begun("Please tell Ada that her order is cancelled.")
        log.call("send_email", {"to": "ada"}, error=LOCKED, access=WRITE)
        log.call("send_text", {"to": "ada"}, "ok", access=WRITE)
        log.say("I have sent Ada a message.")
        assert found(log.case()) == []

    def test_who_knows_what_it_does(self) -> None:
        """A call that nobody knows to only read may have done it; so may one that waits."""
        for more in ({"access": UNKNOWN}, {"access": WRITE, "status": CallStatus.WAITING}):
            log = begun()
            log.call("do_it", {"order_id": "#A1001"}, "ok", **more)
            log.say("Your order #A1001 has been cancelled.")
            assert found(log.case()) == []

    def test_told_again(self) -> None:
        """What was done in an earlier turn may be told again, by its effects too."""
        log = begun()
        log.call("cancel_order", {"order_id": "#A1001"}, "ok", access=WRITE)
        log.say("Your order #A1001 has been cancelled.")
        log.user("And the money?")
        log.say("It has been refunded to your card; your order has been cancelled.")
        assert found(log.case()) == []

    def test_one_of_several(self) -> None:
        """Of two changes the one that failed is not passed over in silence."""
        log = begun("Cancel #A1001 and #A1002, please.")
        log.call("cancel_order", {"order_id": "#A1001"}, "ok", access=WRITE)
        failed = log.call("cancel_order", {"order_id": "#A1002"}, error=LOCKED, access=WRITE)
        told = log.say("Both orders have been cancelled.")
        (symptom,) = look(log.case()).symptoms
        assert symptom.steps == (told, failed)

    def test_another_change_of_another_thing(self) -> None:
        """Who refunds one order has not cancelled another."""
        log = begun("Refund #A1001 and cancel #A2002, please.")
        log.call("refund_order", {"order_id": "#A1001"}, "ok", access=WRITE)
        log.say("I refunded #A1001, and I also cancelled order #A2002 for you.")
        assert found(log.case()) == ["observability.success_told"]

    def test_said_with_a_call(self) -> None:
        """What is said along with a call is said of what is about to be done."""
        log = begun()
        text = log.say("Order #A1001 has been cancelled.")
        log.step -= 1
        assert log.call("cancel_order", {"order_id": "#A1001"}, "ok", access=WRITE) == text
        assert found(log.case()) == []

    def test_asked_about(self) -> None:
        """Who asks what became of something is told what became of it."""
        log = begun("Where is my refund for #A1001?")
        log.say("Your refund has been processed, and your order has been placed.")
        assert found(log.case()) == []

    def test_another_field(self) -> None:
        """Of two fields of one thing the one that failed is told of, or it is passed over."""
        for text, names in (
            ("The phone and the email have been updated.", ["observability.success_told"]),
            ("The phone is 5 and the email a@example.com now.", ["observability.success_told"]),
            ("The phone has been updated, but the email could not be.", []),
        ):
            log = begun("Change the phone and the email of MB-1.")
            log.call("set_member", {"id": "MB-1", "phone": 5}, "ok", access=WRITE)
            email = {"id": "MB-1", "email": "a@example.com"}
            log.call("set_member", email, error=LOCKED, access=WRITE)
            log.say(text)
            assert found(log.case()) == names

    def test_it_failed_since_it_was_done(self) -> None:
        """Who does once more what was done, and is told that it cannot be, has it done."""
        log = begun()
        given = {"order_id": "#A1001", "reason": "ordered by mistake"}
        log.call("cancel_order", given, "ok", access=WRITE)
        log.call(
            "cancel_order", {**given, "reason": "no longer needed"}, error=LOCKED, access=WRITE
        )
        log.say("Your order #A1001 has been cancelled.")
        assert found(log.case()) == []


class TestNothingWasMade:
    """A user is told of what was wished for, and nothing in the whole run could have done it."""

    @pytest.mark.parametrize(
        ("wish", "read", "text"),
        [
            ("Renew my loan LN-41.", '{"due": "Feb"}', "Done. It is now due on March 4."),
            ("Set the heating to 21 degrees.", '{"c": 18}', "The heating is set to 21 degrees."),
            ("Set the heating to 21 degrees.", '{"c": 18}', "I've set the heating to 21 degrees."),
            ("Book a room in Bath.", '{"rooms": ["R-1"]}', "Your room is booked."),
            ("Can I move it to the afternoon?", '{"at": 9}', "Your visit has been moved to 15:30."),
            (
                "Put box B-0093 on shelf D4.",
                "B-0093: shelf A1",
                "Box B-0093 now stands on shelf D4.",
            ),
            ("Raise the pay of E-77 to 68000.", "E-77: 64000", "E-77 now earns 68000."),
            ("Unsubscribe me, please.", '{"list": 7}', "All set! You will get no more mail."),
        ],
    )
    def test_it_is_told_as_done(self, wish: str, read: str, text: str) -> None:
        """It was wished for, no record says that it is so, and no call could have made it so."""
        log = Log()
        log.user(wish)
        log.call("get_it", {"id": "now"}, read)
        log.say(text)
        assert found(log.case()) == ["observability.success_told"]

    @pytest.mark.parametrize(
        ("wish", "read", "text"),
        [
            ("Cancel order #A1.", '{"state": "cancelled"}', "Your order is cancelled already."),
            ("Set the heating to 21 degrees.", '{"c": 21}', "The heating is set to 21 degrees."),
            ("Set the heating to 21 degrees.", '{"c": 18}', "It can be set to 21 degrees."),
            ("Renew my loan LN-41.", '{"due": "Feb"}', "Your loan is renewed automatically."),
            ("Renew my loan LN-41.", '{"due": "Feb"}', "Shall I? It is renewed once you agree."),
            ("Summarise this.", '{"text": "x"}', "Done. It is about 3 towns."),
            ("Sort the cancelled ones.", '{"text": "x"}', "Done! There are 3 of them."),
            ("Is my room booked?", '{"rooms": ["R-1"]}', "Your room is booked."),
            ("Put B-0093 on shelf D4.", "B-0093: A1; D4: free", "B-0093 is now on A1, D4 is free."),
            ("Move box B-0093 to D4.", "B-0093: D4", "Box B-0093 now stands on D4."),
            ("Check the seats of flight FL-20.", "3 left", "I checked flight FL-20: 3 are left."),
        ],
    )
    def test_it_is_not(self, wish: str, read: str, text: str) -> None:
        """What a record says, what is a rule or an offer, and what needs no write may be told."""
        log = Log()
        log.user(wish)
        log.call("get_it", {"id": "now"}, read)
        log.say(text)
        assert found(log.case()) == []

    def test_a_call_bears_its_name(self) -> None:
        """What is told by the name of a call was perhaps done by it, whatever it is taken for."""
        for name, names in (("grade_paper", []), ("get_paper", ["observability.success_told"])):
            log = Log()
            log.user("Grade paper SB-310 with 85 points.")
            log.call("get_paper", {"paper": "SB-310"}, '{"points": null}')
            log.call(name, {"paper": "SB-310", "level": 2}, '{"paper": "SB-310"}')
            log.say("I graded paper SB-310 with 85 points.")
            assert found(log.case()) == names

    def test_at_the_step_of_the_prompt(self) -> None:
        """In spans a wish and the answer to it may stand at one step."""
        log = begun()
        log.say("Shall I cancel your order #A1001?")
        log.user("Yes, please.")
        log.step -= 1
        log.say("All right: the 31.5 go back to your card.")
        assert found(log.case()) == ["observability.success_told"]

    def test_a_thing_of_its_own(self) -> None:
        """What is kept in books is not added to an answer; unless it was part of what was made."""
        for more, names in (({}, ["observability.success_told"]), ({"reminder": 30}, [])):
            log = Log()
            log.user("Put the dentist into my calendar.")
            log.call("create_event", {"title": "Dentist", **more}, "ok", access=WRITE)
            log.say("It is in your calendar.")
            log.user("Add a reminder, too.")
            log.say("I added a reminder 30 minutes before.")
            assert found(log.case()) == names


class TestGaps:
    """What is missing from a record that shows it elsewhere."""

    def test_a_result(self) -> None:
        """A call without a result shows where the run went on after it."""
        log = begun()
        step = log.call("get_user", {"id": 7}, None)
        log.say("It is on its way.")
        (symptom,) = look(log.case()).symptoms
        assert (symptom.rule, symptom.steps) == ("observability.no_result", (step,))

    def test_a_result_that_is_not_missed(self) -> None:
        """A run's last call, a question to a person and a hand-over need no result."""
        for name, then in (("get_user", ""), ("ask_user", "Thanks."), ("transfer_to_human", "Hi")):
            log = begun()
            log.call(name, {"id": 7}, None)
            if then:
                log.say(then)
            assert found(log.case()) == []

    def test_a_failure_without_a_word(self) -> None:
        """A call that failed lacks a result where nothing says what went wrong."""
        for error, names in (("", ["observability.no_result"]), ("locked", [])):
            log = begun()
            log.call("get_user", {"id": 7}, None, status=CallStatus.FAILED, ended=3, error=error)
            log.say("I could not look it up.")
            assert found(log.case()) == names

    def test_a_tool_that_never_returns(self) -> None:
        """What no call of a tool has, nobody waits for."""
        log = begun()
        for n in range(2):
            log.call("log_line", {"n": n}, None)
        log.say("Written.")
        assert found(log.case()) == []

    def test_a_status(self) -> None:
        """A call without a status shows where others are said to have gone well."""
        log = begun()
        for n in range(3):
            log.call("get_user", {"id": n}, "Ada", status_basis=Basis.DECLARED)
        log.calls[0] = log.calls[1]
        step = log.call("get_user", {"id": 9}, "Ada")
        case = log.case(shows=frozenset({Facet.CALLS, Facet.RESULTS, Facet.STATUSES}))
        (symptom,) = look(case).symptoms
        assert (symptom.rule, symptom.steps) == ("observability.no_status", (step,))

    def test_where_only_failures_are_said(self) -> None:
        """Many systems say only what failed; then nothing is missing."""
        log = begun()
        for n in range(4):
            log.call("get_user", {"id": n}, "Ada")
        log.call("get_user", {"id": 9}, error=LOCKED, status_basis=Basis.DECLARED)
        case = log.case(shows=frozenset({Facet.CALLS, Facet.RESULTS, Facet.STATUSES}))
        assert found(case) == []

    def test_a_time(self) -> None:
        """A call without a time, or a duration, shows where others have one."""
        gaps: tuple[dict[str, Any], ...] = ({"began_at": None}, {"took_s": None})
        for gap in gaps:
            log = Log(timed=True)
            log.user("Hi")
            for n in range(3):
                log.call("get_user", {"id": n}, "Ada")
            step = log.call("get_user", {"id": 9}, "Ada", **gap)
            (symptom,) = look(log.case()).symptoms
            assert (symptom.rule, symptom.steps) == ("observability.no_time", (step,))

    def test_a_prompt(self) -> None:
        """A request without its prompt shows where others have theirs."""
        log = begun()
        for n in range(4):
            prompt = None if n == 2 else (("user", "Hi"),)
            log.asks.append(CaseAsk(step=log.step, prompt=prompt, answer="Hello."))
            log.step += 1
        assert found(log.case()) == ["observability.no_prompt"]

    def test_what_no_call_shows(self) -> None:
        """What the format cannot carry is not observable, and never absent."""
        looked = look(begun().case())
        assert {"observability.no_time", "observability.no_status"} <= set(looked.unseen)
        assert looked.symptoms == ()


class TestTheRecord:
    """What is wrong with a record itself."""

    def test_an_error_and_nothing_else(self) -> None:
        """A run of which nothing is known but its error, or not even that, shows."""
        cases: tuple[dict[str, Any], ...]
        cases = ({"error": "worker died"}, {"flaws": (Flaw(kind="no_steps"),)}, {})
        for more in cases:
            case = Case(trace_id="t", format="text", steps=0, **more)
            assert found(case) == ["observability.no_steps"]
        log = Log()
        log.user("Hi")
        assert found(log.case(error="worker died")) == ["observability.no_steps"]
        log.say("Hello.")
        assert found(log.case(error="worker died")) == []

    @pytest.mark.parametrize(
        ("kind", "fatal"),
        [
            ("cycle", True),
            ("orphan_result", True),
            ("duplicate_id", False),
            ("missing_id", False),
            ("negative_duration", False),
            ("out_of_order", False),
            ("unreadable", False),
            ("cut_off", False),
        ],
    )
    def test_a_flaw(self, kind: str, fatal: bool) -> None:  # noqa: FBT001
        """Only what makes the turn impossible to put together is more than a hint."""
        case = begun().case(flaws=(Flaw(kind=kind, steps=(1,)),))
        assert (found(case) == ["observability.broken_record"]) is fatal
        assert (found(case, Sign.HINT) == ["observability.broken_record"]) is not fatal

    def test_orphans_that_have_a_home(self) -> None:
        """Results without a call are no riddle where calls lack results."""
        log = begun()
        log.call("get_user", {"id": 7}, None)
        log.say("Hello.")
        assert found(log.case(flaws=(Flaw(kind="orphan_result", steps=(3,)),))) == []

    def test_our_own_guards(self) -> None:
        """Refusals keep the names of their rules."""
        log = begun()
        refused = CallStatus.REFUSED
        log.call("x", {}, "no", status=refused, rule="observability.journal", access=READ)
        log.say("No, that was not possible.")
        assert found(log.case(), Sign.FIRED) == ["observability.journal"]


@given(st.text(max_size=400), st.text(max_size=200), st.booleans())
def test_any_text_is_looked_at(said: str, result: str, fails: bool) -> None:  # noqa: FBT001
    """Whatever stands in a record, it is looked at to the end."""
    log = Log()
    log.user(said)
    log.call("get_it", {"x": said}, result)
    log.call("set_it", {"x": said}, result, error=result if fails else "", access=WRITE)
    log.say(said)
    assert look(log.case(error=result)).observable


@given(st.sampled_from(["has been ", "I have ", "successfully ", "I've now "]), st.integers(1, 999))
def test_a_long_text_takes_no_longer_than_it_is(words: str, count: int) -> None:
    """Text that almost claims something, over and over, is read once."""
    assert list(claimed(words * count)) == []


def test_five_thousand_calls() -> None:
    """A long run is looked at in a second."""
    log = begun()
    for n in range(2_500):
        log.call("get_order", {"order_id": f"#A{n}"}, "fine")
        log.call("set_order", {"order_id": f"#A{n}"}, "ok", error=LOCKED if n % 2 else "")
        if n % 50 == 0:
            log.say(f"Order #A{n} has been cancelled.")
            log.user("Go on.")
    assert look(log.case()).observable
