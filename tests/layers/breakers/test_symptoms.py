"""What breakers look for in a finished run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import undercroft as uc
from tests.layers.agents import FAILED, NEITHER, READ, UNKNOWN, WRITE, Log, healthy
from undercroft.layers.breakers.foreign import asked_wait_s
from undercroft.layers.breakers.symptoms import RULES, look
from undercroft.model.case import CallStatus, Case, CaseAsk, CaseText, Facet, Flaw, GuardAct
from undercroft.model.symptom import Rule, Sign

GONE = "Error: order #A1 does not exist"
AWAY = "Error: 503 service unavailable"
LOST = "Error: the request timed out"


def found(case: Case, sign: Sign = Sign.MISSING) -> list[str]:
    """Return the names of rules that a run shows to be broken."""
    return [one.rule for one in look(case).symptoms if one.sign is sign]


def begun() -> Log:
    """Return a run in which the user has just said something."""
    log = Log()
    log.user("Where is order #A1?")
    return log


def told(log: Log) -> Case:
    """Return a run that comes to an end."""
    log.say("I could not find out.")
    return log.case()


@given(st.integers(0, 1_000_000))
def test_what_healthy_agents_do_is_no_symptom(seed: int) -> None:
    """Paging, polling, one retry, learning from a refusal: none of it is held against a run."""
    assert look(healthy(seed).case()).symptoms == ()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_lines_of_a_rule_run(rule: Rule) -> None:
    """The code that a rule shows is code, and fits beside what prints it."""
    exec(rule.lines, {"uc": uc})  # noqa: S102  that it runs is what is tested
    assert all(len(line) <= 76 for line in rule.lines.splitlines())
    assert rule.name.startswith("breakers.")
    assert set(rule.needs) <= {str(facet) for facet in Facet}


class TestTheSameCallAgain:
    """A call that failed is made again, identical."""

    def test_nothing_changed(self) -> None:
        """An identical call after a failure shows, the second call first."""
        log = begun()
        first = log.call("get_order", {"id": "#A1"}, error=GONE, kind="domain")
        again = log.call("get_order", {"id": "#A1"}, error=GONE, kind="domain")
        (symptom,) = look(told(log)).symptoms
        assert (symptom.rule, symptom.steps) == ("breakers.repeat_after_failure", (again, first))
        assert "does not exist" in symptom.evidence

    @pytest.mark.parametrize("between", ["write", "user", "login", "unknown"])
    def test_something_changed(self, between: str) -> None:
        """After a write, a word of the user or a login a call may be worth another try."""
        log = begun()
        log.call("get_order", {"id": "#A1"}, error=GONE, kind="domain")
        if between == "write":
            log.call("create_order", {"id": "#A1"}, access=WRITE)
        elif between == "user":
            log.user("Try again, I have just placed it.")
        elif between == "login":
            log.call("login", {"user": "ada"}, access=NEITHER)
        else:
            log.call("do_it", {"user": "ada"}, access=UNKNOWN)
        log.call("get_order", {"id": "#A1"}, error=GONE, kind="domain")
        assert found(told(log)) == []

    def test_a_failed_write_changes_nothing(self) -> None:
        """A write that failed between is no reason to try the same again."""
        log = begun()
        log.call("get_order", {"id": "#A1"}, error=GONE, kind="domain")
        log.call("create_order", {"id": "#A1"}, error="Error: not allowed", access=WRITE)
        log.call("get_order", {"id": "#A1"}, error=GONE, kind="domain")
        assert found(told(log)) == ["breakers.repeat_after_failure"]

    def test_one_batch_could_not_know(self) -> None:
        """Two calls of one batch were asked for at once: the second is no answer to the first."""
        log = begun()
        log.call("get_order", {"id": "#A1"}, error=GONE, kind="domain", batch=1)
        log.call("get_order", {"id": "#A1"}, error=GONE, kind="domain", batch=1)
        assert found(told(log)) == []

    @given(st.integers(1, 6))
    def test_transient_errors_are_worth_three_attempts(self, failures: int) -> None:
        """A transient error may be retried twice; whoever gives in then has done no wrong."""
        log = begun()
        for _ in range(failures):
            log.call("get_order", {"id": "#A1"}, error=AWAY, kind="transient")
        log.call("get_order", {"id": "#A1"}, "it is on its way")
        names = set(found(told(log)))
        assert ("breakers.repeat_after_failure" in names) == (failures > 3)
        assert ("breakers.failures_in_row" in names) == (failures >= 3)

    def test_a_wait_that_was_asked_for_is_kept(self) -> None:
        """Who is told to wait and does so had a guard; who does not wait had none."""
        for seconds, names, sign in (
            (31, ["breakers.guard"], Sign.FIRED),
            (2, ["breakers.repeat_after_failure"], Sign.MISSING),
        ):
            log = Log(timed=True)
            log.user("Where is it?")
            error = "Error 429: too many requests, retry after 30 seconds"
            log.call("get_order", {"id": "#A1"}, error=error, kind="overloaded")
            log.wait(seconds)
            log.call("get_order", {"id": "#A1"}, error=error, kind="overloaded")
            assert found(told(log), sign) == names

    def test_what_cannot_be_mended_by_a_retry(self) -> None:
        """A permanent error that is retried has a rule of its own."""
        log = begun()
        for _ in range(2):
            log.call("get_order", {"id": 7}, error="Error: unknown parameter", kind="permanent")
        assert found(told(log)) == ["breakers.retried_permanent"]


class TestWritesInDoubt:
    """A write of which nobody knows whether it happened."""

    @pytest.mark.parametrize(
        "error", [LOST, "Connection reset by peer", "HTTP 504 Gateway Timeout", "status 500"]
    )
    def test_it_is_made_again(self, error: str) -> None:
        """Repeating it unchecked shows, also where the second went well."""
        log = begun()
        log.call("pay", {"sum": 5}, error=error, kind="transient", access=WRITE)
        log.call("pay", {"sum": 5}, "paid", access=WRITE)
        assert found(told(log)) == ["breakers.blind_rewrite"]

    def test_it_was_checked(self) -> None:
        """Who looks first may repeat it; looking at something else is no check."""
        for seen, names in (("bill/7", []), ("weather/x", ["breakers.blind_rewrite"])):
            log = begun()
            given = {"bill": "7"}
            log.call("pay", given, error=LOST, kind="transient", access=WRITE, touch="bill/7")
            log.call("get_it", {"id": "7"}, "open", touch=seen)
            log.call("pay", given, "paid", access=WRITE, touch="bill/7")
            assert found(told(log)) == names

    def test_it_has_a_key(self) -> None:
        """Under one idempotency key a write happens once, however often it is made."""
        log = begun()
        for _ in range(2):
            given = {"sum": 5, "idempotency_key": "k-1"}
            log.call("pay", given, error=LOST, kind="transient", access=WRITE)
        assert found(told(log)) == []

    @pytest.mark.parametrize("error", ["connection refused", AWAY, "429 rate limit"])
    def test_it_cannot_have_happened(self, error: str) -> None:
        """What was never sent, or turned away, may be tried once more."""
        log = begun()
        log.call("pay", {"sum": 5}, error=error, kind="transient", access=WRITE)
        log.call("pay", {"sum": 5}, "paid", access=WRITE)
        assert found(told(log)) == []


class TestFailuresInARow:
    """Three failures in a row."""

    def test_of_one_tool(self) -> None:
        """The third failure of a service that is away shows, whatever was asked."""
        log = begun()
        steps = [log.call("get_order", {"id": n}, error=AWAY, kind="transient") for n in range(3)]
        (symptom,) = look(told(log)).symptoms
        assert symptom.rule == "breakers.failures_in_row"
        assert symptom.steps == (steps[2], steps[0], steps[1])

    def test_of_one_service(self) -> None:
        """Three tools in a row that cannot be reached are one service that is away."""
        log = begun()
        for name in ("get_order", "get_user", "get_bill"):
            log.call(name, {"id": 1}, error=AWAY, kind="transient")
        assert found(told(log)) == ["breakers.failures_in_row"]

    def test_a_success_between(self) -> None:
        """What goes well in between ends the row."""
        log = begun()
        for n in range(6):
            log.call("get_order", {"id": n}, "ok", error=AWAY if n % 2 else "", kind="transient")
        assert found(told(log)) == []

    def test_looking_for_something(self) -> None:
        """Looking under one name after the other is how things are looked for."""
        log = begun()
        for n in range(9):
            log.call("find_user", {"name": f"a{n}"}, error="Error: not found", kind="domain")
        assert found(told(log)) == []

    def test_learning(self) -> None:
        """Arguments that are corrected, with another complaint each time, are no such row."""
        log = begun()
        for n, what in enumerate(("name", "date", "sum", "place")):
            error = f"Error: missing field {what}"
            log.call("book", {"n": n}, error=error, kind="permanent", access=WRITE)
        assert found(told(log)) == []

    def test_not_learning(self) -> None:
        """The same complaint three times is one, whatever was changed about the arguments."""
        log = begun()
        for n in range(3):
            error = f"Error: the sum does not add up, {n} is missing"
            log.call("book", {"id": 7, "n": n}, error=error, kind="domain", access=WRITE)
        assert found(told(log)) == ["breakers.failures_in_row"]

    def test_many_things(self) -> None:
        """A no to each of many things is many answers, and no failure in a row."""
        log = begun()
        for n in range(6):
            log.call("book", {"id": n}, error="Error: it is locked", kind="domain", access=WRITE)
        assert found(told(log)) == []

    @pytest.mark.parametrize(
        "error",
        ["Error: internal error", "Error: upstream unavailable", "Error: failed", "500: oops"],
    )
    @pytest.mark.parametrize("kind", ["unknown", "domain", ""])
    def test_nothing_is_said(self, error: str, kind: str) -> None:
        """An error that says nothing is no answer: three of them show, whatever was asked."""
        log = begun()
        for n in range(3):
            log.call("get_order", {"id": n}, error=f"{error} E{n}00", kind=kind)
        assert found(told(log)) == ["breakers.failures_in_row"]

    def test_something_is_said(self) -> None:
        """A no that says why is an answer, also where it is a short one."""
        log = begun()
        for n in range(3):
            log.call("get_order", {"id": n}, error=f"Error: order {n} is locked", kind="domain")
        assert found(told(log)) == []

    def test_of_one_batch(self) -> None:
        """What was asked for at once counts as one."""
        log = begun()
        for n in range(5):
            log.call("get_order", {"id": n}, error=AWAY, kind="transient", batch=1)
        assert found(told(log)) == []


class TestCycles:
    """The same calls, over and over."""

    @pytest.mark.parametrize("period", [1, 2, 3, 4])
    def test_it_leads_nowhere(self, period: int) -> None:
        """A short cycle with the same results shows at its third time, one call at its fifth."""
        log = begun()
        for _ in range(5 if period == 1 else 3):
            for n in range(period):
                log.call("look_up", {"id": n}, f"it is {n}")
        assert found(told(log)) == ["breakers.cycle"]

    def test_results_that_differ(self) -> None:
        """What comes to something new each time is no cycle."""
        log = begun()
        for n in range(9):
            log.call("look_up", {"id": 1}, f"it is {n}")
        assert found(told(log)) == []

    def test_polling(self) -> None:
        """Asking how far something is, is no cycle, unless it is asked without end."""
        for count, names in ((8, []), (40, ["breakers.cycle"])):
            log = begun()
            for _ in range(count):
                log.call("get_job", {"id": 1}, '{"status": "running"}')
            assert sorted(set(found(told(log)))) == names

    def test_clicking(self) -> None:
        """Who presses the same key again is somewhere else each time."""
        log = begun()
        for _ in range(9):
            log.call("press", {"key": "down"}, "ok", access=UNKNOWN)
            log.call("scroll", {"by": 10}, "ok", access=WRITE)
        assert found(told(log)) == []


class TestTheEnd:
    """How a run ended."""

    def test_on_a_failure(self) -> None:
        """A run whose last thing is a failed call has no end."""
        log = begun()
        log.call("get_order", {"id": 1}, error=GONE, kind="domain")
        assert found(log.case()) == ["breakers.no_end_state"]
        log.user("Never mind, bye.")
        assert found(log.case()) == []

    def test_without_an_answer(self) -> None:
        """A call that was asked for and has no result, at the end, is no end either."""
        log = begun()
        log.call("get_order", {"id": 1}, "ok")
        step = log.call("cancel_order", {"id": 1}, None, access=WRITE)
        (symptom,) = look(log.case()).symptoms
        assert (symptom.rule, symptom.steps) == ("breakers.no_end_state", (step,))

    def test_before_the_user_was_told(self) -> None:
        """A conversation that breaks off after a result leaves its user without an answer."""
        log = begun()
        log.call("get_order", {"id": 1}, "it is on its way")
        assert found(log.case()) == ["breakers.no_end_state"]

    @pytest.mark.parametrize(
        "name", ["transfer_to_human", "finish", "final_answer", "ask_user", "send_message"]
    )
    def test_with_a_last_call(self, name: str) -> None:
        """Handing over, asking a person and saying the last word are ends."""
        log = begun()
        log.call("get_order", {"id": 1}, "ok")
        log.call(name, {"text": "x"}, "ok", access=NEITHER)
        assert found(log.case()) == []

    def test_at_a_limit(self) -> None:
        """An error that ended the run is no end state, nor is what stands in an answer's place."""
        log = begun()
        log.call("get_order", {"id": 1}, "ok")
        error = "Recursion limit of 25 reached without hitting a stop condition"
        assert found(log.case(error=error)) == ["breakers.no_end_state"]
        step = log.say("Agent stopped due to iteration limit or time limit.")
        (symptom,) = look(log.case()).symptoms
        assert (symptom.rule, symptom.steps) == ("breakers.no_end_state", (step,))

    def test_at_a_limit_that_the_agent_keeps(self) -> None:
        """Whoever says in its own words that a limit is reached has ended, and kept to it."""
        log = begun()
        log.call("get_order", {"id": 1}, "ok")
        log.say("I have reached my step limit. The order is open; its address was not changed.")
        assert found(log.case()) == []
        assert found(log.case(), Sign.FIRED) == ["breakers.guard"]

    def test_an_error_that_was_mended(self) -> None:
        """What is given as the error of a run, and is that of a call, may have been mended."""
        log = begun()
        log.call("get_order", {"id": 1}, error=AWAY, kind="overloaded")
        assert found(log.case(error=AWAY, finished=True)) == ["breakers.no_end_state"]
        log.call("get_order", {"id": 1}, "it is open")
        assert found(log.case(error=AWAY)) == ["breakers.no_end_state"]
        log.say("It is open.")
        assert found(log.case(error=AWAY, finished=True)) == []

    @pytest.mark.parametrize(
        ("error", "names"),
        [
            ("context_length_exceeded: 9000 tokens", []),
            ("429 Too many requests: rate limit", ["breakers.no_end_state"]),
        ],
    )
    def test_the_model_failed(self, error: str, names: list[str]) -> None:
        """A prompt that was refused is how a run ended; a limit that nobody waited for is none."""
        log = begun()
        log.call("get_order", {"id": 1}, "it is open")
        log.asks.append(CaseAsk(step=log.step, prompt=(("user", "Hi"),), error=error))
        log.step += 1
        assert found(log.case()) == names

    def test_a_record_that_was_cut_off(self) -> None:
        """Where the record ends in its middle, nothing is known of how the run ended."""
        log = begun()
        log.call("get_order", {"id": 1}, error=GONE, kind="domain")
        assert found(log.case(flaws=(Flaw(kind="cut_off"),))) == []

    def test_among_several_agents(self) -> None:
        """Where several agents speak, nobody knows who would have been next."""
        log = begun()
        log.texts.append(CaseText(step=log.step, role="other", text="Run it.", actor="planner"))
        log.step += 1
        log.call("execute", {"code": "x"}, error="exitcode: 1", kind="unknown")
        assert found(log.case()) == []
        assert found(log.case(finished=False)) == ["breakers.no_end_state"]

    def test_an_approval_that_is_waited_for(self) -> None:
        """A call that waits for a person is how a run may end."""
        log = begun()
        log.call("get_order", {"id": 1}, "ok")
        log.call("pay", {"sum": 1}, None, access=WRITE, status=CallStatus.WAITING)
        assert found(log.case()) == []


class TestGuards:
    """What was there already."""

    @pytest.mark.parametrize(
        "error",
        ["CircuitBreakerError: circuit breaker is open", "Loop detected: try something else"],
    )
    def test_of_others(self, error: str) -> None:
        """The words of other people's breakers count as a guard."""
        log = begun()
        log.call("get_order", {"id": 1}, error=error, kind="transient")
        assert found(told(log), Sign.FIRED) == ["breakers.guard"]

    def test_of_ours(self) -> None:
        """Refusals and acts keep the names of their rules."""
        log = begun()
        log.call("pay", {}, "refused", status=CallStatus.REFUSED, rule="breakers.open")
        log.call("pay", {}, "refused", status=CallStatus.REFUSED, rule="conflicts.busy")
        log.acts = [GuardAct(step=1, rule="breakers.deadline")]
        assert sorted(found(told(log), Sign.FIRED)) == ["breakers.deadline", "breakers.open"]

    def test_who_only_speaks_of_it(self) -> None:
        """A document about circuit breakers is no guard."""
        log = begun()
        log.call("search", {"q": "x"}, "When a circuit breaker is open, calls are refused.")
        assert look(told(log)).symptoms == ()


class TestWhatCannotBeSeen:
    """What a record does not show."""

    def test_without_calls(self) -> None:
        """Text alone shows nothing of calls: not observable, and never absent."""
        texts = (CaseText(step=0, role="user", text="hi"),)
        looked = look(Case(trace_id="t", format="text", steps=1, texts=texts))
        assert not looked.observable
        assert set(looked.unseen) == {rule.name for rule in RULES}

    def test_without_arguments(self) -> None:
        """Without arguments nobody knows if two calls are the same; a row is seen nevertheless."""
        log = begun()
        for _ in range(3):
            log.call("get_order", None, error=AWAY, kind="transient")  # type: ignore[arg-type]
        log.say("No.")
        case = log.case(shows=frozenset({Facet.CALLS, Facet.RESULTS}))
        assert "breakers.repeat_after_failure" in look(case).unseen
        assert found(case) == ["breakers.failures_in_row"]

    def test_times_decide_the_order(self) -> None:
        """Where all calls say when they began, that is their order, not their place."""
        log = begun()
        log.call("get", {"id": 1}, error=GONE, kind="domain", began_at=9.0, took_s=1.0)
        log.call("get", {"id": 1}, error=GONE, kind="domain", began_at=9.0, took_s=1.0)
        assert found(told(log)) == []


@given(st.text(max_size=200))
def test_a_wait_is_read_from_any_text(text: str) -> None:
    """Whatever a service says, the wait is a number of seconds that can be waited."""
    assert 0 <= asked_wait_s(text) <= 86_400


def test_five_thousand_calls() -> None:
    """A long run is looked at in a second."""
    log = begun()
    for n in range(5_000):
        bad = AWAY if n % 3 else ""
        log.call("get_order", {"id": n % 50}, "ok", error=bad, kind="transient", access=READ)
    assert all(call.status is FAILED for call in log.calls[1:2])
    assert look(told(log)).observable
