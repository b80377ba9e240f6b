"""Going round in circles: noticed after as many rounds as allowed, and never taken for work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from undercroft.layers.breakers.loops import Looping, LoopKind, Loops
from undercroft.layers.breakers.policy import LoopPolicy
from undercroft.model.ids import fingerprint

# A tool, its arguments, what class its result has, its result, whether it changed the world.
Made = tuple[str, Any, str, Any, bool]
PATIENT = LoopPolicy(repeats_max=1_000, cycle_max=4, cycles_max=2, stale_steps_max=1_000)


class Agent:
    """Makes calls one after the other, as far as it is let."""

    def __init__(self, policy: LoopPolicy | None = None, **options: Any) -> None:
        self.loops = Loops(policy, **options)
        self.made = 0

    def call(  # noqa: PLR0913  each is one fact of a call
        self,
        tool: str,
        args: Any = None,
        came: str = "ok",
        result: Any = None,
        *,
        changed: bool = False,
        polls: bool = False,
    ) -> Looping | None:
        """Make one call, unless it is refused; return why."""
        args_fp = fingerprint(args)
        looping = self.loops.ask(tool, args_fp, polls=polls)
        if looping is None:
            self.made += 1
            result_fp = fingerprint(result)
            self.loops.note(tool, args_fp, came, result_fp, changed=changed, polls=polls)
        return looping

    def follow(self, tools: Iterable[str]) -> Looping | None:
        """Call reads by name until one is refused; return why."""
        for tool in tools:
            looping = self.call(tool)
            if looping is not None:
                return looping
        return None


def refused(looping: Looping | None) -> Looping:
    """Return why a call was refused; fail if it was not."""
    assert looping is not None
    return looping


# The same call


@pytest.mark.parametrize("times", [1, 2, 3, 7])
def test_the_same_call_so_often_is_enough(times: int) -> None:
    """The same tool, arguments and class of result as often as allowed: the next is refused."""
    agent = Agent(LoopPolicy(repeats_max=times))
    for number in range(times):
        assert agent.call("get", {"id": 7}, "ok", number) is None
    looping = refused(agent.call("get", {"id": 7}))
    assert looping.kind is LoopKind.REPEAT
    assert (looping.tools, looping.count, looping.result_class) == (("get",), times, "ok")
    assert looping.rule == "breakers.repeat"


def test_the_same_call_counts_wherever_it_stands() -> None:
    """What is called in between does not hide a repetition."""
    agent = Agent()
    for number in range(3):
        assert agent.call("get", 7) is None
        for other in range(5):
            assert agent.call("look", [number, other]) is None
    refused(agent.call("get", 7))


def test_the_order_of_arguments_makes_no_difference() -> None:
    """Arguments are compared in canonical form."""
    agent = Agent()
    for args in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 2}):
        assert agent.call("get", args) is None
    refused(agent.call("get", {"b": 2, "a": 1}))


def test_each_class_of_result_counts_by_itself() -> None:
    """A call that fails twice and then goes well twice came to nothing three times."""
    agent = Agent()
    for came in ("timeout", "ok", "timeout", "ok"):
        assert agent.call("get", 7, came) is None
    assert agent.call("get", 7, "timeout") is None
    looping = refused(agent.call("get", 7))
    assert (looping.count, looping.result_class) == (3, "timeout")


def test_other_arguments_are_another_call() -> None:
    """Batches over many records are no circle, whatever they come to."""
    agent = Agent()
    for came in ("ok", "not_found", "ok"):
        for number in range(50):
            assert agent.call("get", {"id": number}, came) is None
    assert agent.made == 150


def test_other_tools_are_another_call() -> None:
    """The same arguments to many tools are no circle."""
    agent = Agent()
    assert agent.follow([f"tool{number}" for number in range(50)] * 3) is None


def test_a_batch_of_the_same_call_counts_each_of_them() -> None:
    """Of five identical calls asked for at once, before any result is there, three may run."""
    loops, args_fp = Loops(), fingerprint(7)
    answers = [loops.ask("get", args_fp) for _ in range(5)]
    assert [answer is None for answer in answers] == [True] * 3 + [False] * 2
    assert refused(answers[3]).result_class == ""
    for _ in range(2):
        loops.drop("get", args_fp)
    assert loops.ask("get", args_fp) is None


def test_a_call_that_never_ran_does_not_count() -> None:
    """What is dropped leaves its place to others, however often."""
    loops, args_fp = Loops(), fingerprint(7)
    for _ in range(20):
        assert loops.ask("get", args_fp) is None
        loops.drop("get", args_fp)
        loops.drop("never", args_fp)
    assert loops.ask("get", args_fp) is None


# Cycles


@pytest.mark.parametrize("tools", ["AB", "ABC", "ABCD", "AAB", "ABB", "AABB"])
@pytest.mark.parametrize("rounds", [2, 3, 5])
def test_a_short_cycle_so_often_is_enough(tools: str, rounds: int) -> None:
    """The call that would begin the next round is refused, and names the cycle."""
    policy = LoopPolicy(repeats_max=1_000, cycles_max=rounds)
    agent = Agent(policy)
    assert agent.follow(tools * rounds) is None
    looping = refused(agent.call(tools[0]))
    assert looping.kind is LoopKind.CYCLE
    assert (looping.tools, looping.count) == (tuple(tools), rounds)
    assert looping.result_class == "ok"


def test_a_cycle_of_different_results_names_none() -> None:
    """Where the calls of a cycle come to different classes of result, no one class is named."""
    agent = Agent(PATIENT)
    for _ in range(2):
        assert agent.call("A", None, "ok") is None
        assert agent.call("B", None, "failed") is None
    assert refused(agent.call("A")).result_class == ""


def test_all_of_a_cycle_is_refused() -> None:
    """The turn does not spin on with the other calls of a cycle, and something else is free."""
    agent = Agent(PATIENT)
    agent.follow("ABABA")
    for number, tool in enumerate("BABAB"):
        assert refused(agent.call(tool)).kind is LoopKind.CYCLE
        assert agent.call("C", number) is None


def test_a_long_cycle_is_none() -> None:
    """Cycles longer than allowed for are left to the counting of repetitions."""
    assert Agent(PATIENT).follow("ABCDE" * 20) is None
    looping = refused(Agent(LoopPolicy(cycle_max=4)).follow("ABCDE" * 4))
    assert (looping.kind, looping.tools) == (LoopKind.REPEAT, ("A",))


def test_the_same_call_is_no_cycle() -> None:
    """One call again and again is a repetition, at its own limit."""
    assert Agent(PATIENT).follow("A" * 100) is None


def test_a_broken_cycle_begins_anew() -> None:
    """Something else in between, or another class of result, breaks the rhythm."""
    assert Agent(PATIENT).follow("ABAXBABYABAZ") is None
    agent = Agent(PATIENT)
    for number in range(20):
        assert agent.call("A", None, "ok" if number % 3 else "busy") is None
        assert agent.call("B", None, "ok" if number % 2 else "busy") is None or number > 10


def test_a_cycle_of_one_is_not_looked_for() -> None:
    """With `cycle_max` 1 there are repetitions only."""
    assert Agent(LoopPolicy(cycle_max=1, repeats_max=50)).follow("AB" * 50) is None


# Progress


def test_a_new_change_begins_the_counting_anew() -> None:
    """Read, write, read, write of different values goes on as long as it likes."""
    agent = Agent()
    for value in range(100):
        assert agent.call("read", 7, "ok", value) is None
        assert agent.call("write", [7, value], changed=True) is None


def test_a_cycle_begins_anew_with_a_change() -> None:
    """Rounds before a change do not count with those after it."""
    agent = Agent(PATIENT)
    for value in range(20):
        assert agent.follow("AB") is None
        assert agent.call("write", value, changed=True) is None
    assert agent.follow("ABAB") is None
    refused(agent.call("A"))


def test_an_answer_that_changed_something_led_to_something_new() -> None:
    """A new change is news, also if what it came to was seen before."""
    loops = Loops(LoopPolicy(stale_steps_max=2))
    loops.said(b"thinking")
    loops.progress()
    for _ in range(2):
        assert loops.model_step() is None
        loops.said(b"thinking")
    assert refused(loops.model_step()).count == 2


def test_the_same_change_again_is_none() -> None:
    """Read, write, read, write of the same value is a circle."""
    agent = Agent()
    calls = 0
    while agent.call("read", 7) is None and agent.call("write", [7, 1], changed=True) is None:
        calls += 2
        assert calls < 20
    assert agent.made <= 2 + 2 * 3 + 1


def test_a_change_that_fails_is_no_progress() -> None:
    """A write that does not go well begins nothing anew, and is refused in the end itself."""
    agent = Agent()
    for _ in range(3):
        assert agent.call("write", 1, "conflict") is None
    refused(agent.call("write", 1))
    agent = Agent()
    assert agent.call("write", 1, "timeout") is None
    assert agent.call("write", 1, "ok", changed=True) is None, "the first time that it went well"
    for _ in range(3):
        assert agent.call("read") is None
    refused(agent.call("read"))


def test_twenty_records_are_read_changed_and_written() -> None:
    """Read, modify, write over twenty records, each read twice, is work."""
    agent = Agent()
    for record in range(20):
        assert agent.loops.model_step() is None
        assert agent.call("list") is None
        assert agent.call("read", record, "ok", "old") is None
        assert agent.call("write", [record, "new"], changed=True) is None
        assert agent.call("read", record, "ok", "new") is None


def test_a_person_can_begin_the_counting_anew() -> None:
    """After a word from outside the same question may be asked again."""
    agent = Agent()
    refused(agent.follow("AAAA"))
    agent.loops.progress()
    assert agent.loops.redirects == 0
    assert agent.follow("AAA") is None
    refused(agent.call("A"))


# Nothing new


def steps(agent: Agent, most: int, act: Callable[[int], object]) -> Looping | None:
    """Let a model answer `most` times at most; return why it should not go on."""
    for number in range(most):
        looping = agent.loops.model_step()
        if looping is not None:
            return looping
        act(number)
    return None


def test_answers_that_lead_to_nothing_new_are_counted() -> None:
    """So many answers whose results were all seen before: the model is told before the next."""
    agent = Agent(LoopPolicy(repeats_max=1_000, cycles_max=1_000, stale_steps_max=5))
    looping = refused(steps(agent, 50, lambda _number: agent.call("get", 7, "ok", "same")))
    assert (looping.kind, looping.count, looping.tools) == (LoopKind.STALE, 5, ())
    assert agent.made == 1 + 5
    assert looping.rule == "breakers.stale"


def test_something_new_begins_the_counting_of_answers_anew() -> None:
    """One result in eight that was not seen before keeps a turn going."""
    agent = Agent(LoopPolicy(repeats_max=1_000, cycles_max=1_000, stale_steps_max=8))
    assert steps(agent, 200, lambda n: agent.call("get", 7, "ok", n // 8)) is None


def test_answers_without_calls_are_new_if_their_text_is() -> None:
    """A loop of different texts is work, the same text again is not, and silence says nothing."""
    agent = Agent()
    assert steps(agent, 100, lambda number: agent.loops.said(fingerprint(number))) is None
    assert steps(agent, 100, lambda _number: None) is None
    assert refused(steps(agent, 100, lambda _n: agent.loops.said(b"again"))).count == 8


def test_an_answer_is_judged_when_its_calls_are_over() -> None:
    """Calls under way may still come to something new."""
    loops = Loops(LoopPolicy(stale_steps_max=2))
    loops.note("get", b"", "ok", b"")
    loops.ask("get", b"")
    for _ in range(20):
        assert loops.model_step() is None


# Declared polling


def test_polling_is_left_to_its_budget() -> None:
    """A call that is declared to poll may be made as often as it likes, and hides no other."""
    agent = Agent(LoopPolicy(stale_steps_max=2))
    assert (
        steps(agent, 500, lambda _number: agent.call("status", 7, "ok", "busy", polls=True)) is None
    )
    for _ in range(3):
        assert agent.call("get") is None
        assert agent.call("status", 7, "ok", "busy", polls=True) is None
    refused(agent.call("get"))
    agent.loops.drop("status", fingerprint(7), polls=True)


# Told, and told again


def test_whoever_does_not_listen_is_ended() -> None:
    """An agent that spins on refusals is told as often as allowed, and then ended."""
    for most in (0, 1, 2, 5):
        agent = Agent(LoopPolicy(redirects_max=most))
        assert agent.follow("AAA") is None
        told = [refused(agent.call("A")) for _ in range(most + 3)]
        assert [looping.end for looping in told] == [False] * most + [True] * 3
        assert [looping.redirects for looping in told] == list(range(1, most + 4))


def test_one_answer_is_told_once() -> None:
    """Several refused calls of one answer are one redirection, since the model was told once."""
    agent = Agent()
    for _ in range(3):
        agent.loops.model_step()
        assert agent.call("A") is None
    for number in range(3):
        agent.loops.model_step()
        told = [refused(agent.call("A")) for _ in range(4)]
        assert {looping.redirects for looping in told} == {number + 1}
        assert all(looping.end == (number == 2) for looping in told)


def test_two_failing_tools_in_turn_come_to_an_end() -> None:
    """An agent that alternates two failing tools makes six calls, is told twice, and is ended."""
    agent, told = Agent(), []
    for number in range(100):
        looping = agent.loops.model_step() or agent.call("AB"[number % 2], None, "failed")
        if looping is not None:
            told.append(looping)
            if looping.end:
                break
    assert agent.made == 6
    assert [looping.end for looping in told] == [False, False, True]


def test_another_try_after_an_error_is_work() -> None:
    """Whoever mends its arguments after each error is not held up."""
    agent = Agent()
    for number in range(50):
        assert agent.loops.model_step() is None
        assert agent.call("query", f"select {number}", "failed", f"no column {number}") is None


def test_who_gets_on_is_told_anew() -> None:
    """A change that was not made before takes back what was said."""
    agent = Agent()
    refused(agent.follow("AAAAA"))
    assert agent.loops.redirects == 1
    agent.call("write", 1, changed=True)
    assert agent.loops.redirects == 0


@pytest.mark.parametrize("kind", LoopKind)
def test_a_refusal_says_what_happened_and_what_to_do(kind: LoopKind) -> None:
    """Texts name the tools and the count, are sentences with their mend, and the facts are data."""
    tools = () if kind is LoopKind.STALE else ("get", "put")
    looping = Looping(kind, tools, 4, "failed", 1, end=False)
    assert "4" in looping.problem
    assert all(tool in looping.problem for tool in tools)
    assert looping.mend.endswith(".")
    assert ("not tried yet" in looping.mend) == (kind is LoopKind.STALE)
    assert fingerprint(looping.facts)
    last = Looping(kind, tools, 4, "", 3, end=True)
    assert "ends here" in last.mend
    assert "''" not in last.problem


# Beside a list of everything


class Reference:
    """The rules as they are written, over the list of all calls since the last progress."""

    def __init__(self, policy: LoopPolicy) -> None:
        self.policy = policy
        self.calls: list[tuple[Any, str]] = []
        self.blocked: set[Any] = set()
        self.changes: set[Any] = set()

    def ask(self, asked: Any) -> tuple[LoopKind, int] | None:
        """Return why a call is refused, and how often what it goes on with was made."""
        if asked in self.blocked:
            return LoopKind.CYCLE, 0
        for period in range(2, self.policy.cycle_max + 1):
            rounds = self.rounds(period)
            cycle = self.calls[len(self.calls) - period :]
            if rounds >= self.policy.cycles_max and len(set(cycle)) > 1 and cycle[0][0] == asked:
                self.blocked |= {call for call, _ in cycle}
                return LoopKind.CYCLE, rounds
        classes = [came for call, came in self.calls if call == asked]
        count = max((classes.count(came) for came in classes), default=0)
        return (LoopKind.REPEAT, count) if count >= self.policy.repeats_max else None

    def rounds(self, period: int) -> int:
        """Return how often the last `period` calls were made in a row."""
        rounds, cycle = 0, self.calls[-period:]
        while cycle and self.calls[len(self.calls) - (rounds + 1) * period :][:period] == cycle:
            rounds += 1
            if (rounds + 1) * period > len(self.calls):
                break
        return rounds if len(cycle) == period else 0

    def note(self, asked: Any, came: str, *, changed: bool) -> None:
        """Record what a call came to."""
        if changed and asked not in self.changes:
            self.changes.add(asked)
            self.calls, self.blocked = [], set()
        else:
            self.calls.append((asked, came))


made = st.tuples(
    st.sampled_from("AB"), st.integers(0, 1), st.sampled_from(["ok", "failed"]), st.booleans()
)
policies = st.builds(
    LoopPolicy,
    repeats_max=st.integers(1, 6),
    cycle_max=st.integers(1, 5),
    cycles_max=st.integers(2, 4),
)


@settings(max_examples=300)
@given(policies, st.lists(st.lists(made, min_size=1, max_size=4), max_size=8), st.integers(1, 6))
def test_every_refusal_is_by_the_rules(
    policy: LoopPolicy, parts: list[list[tuple[str, int, str, bool]]], again: int
) -> None:
    """What is refused, and why, is what the rules say over the list of all calls."""
    agent, reference = Agent(policy), Reference(policy)
    for tool, args, came, changes in [call for part in parts for call in part * again]:
        changed = changes and came == "ok"
        expected = reference.ask((tool, args))
        looping = agent.call(tool, args, came, changed=changed)
        if expected is None:
            assert looping is None
            reference.note((tool, args), came, changed=changed)
        else:
            kind, count = expected
            assert refused(looping).kind is kind
            assert count in {0, refused(looping).count}


class Batches(RuleBasedStateMachine):
    """Batches asked for at once, beside a count of what is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = LoopPolicy(repeats_max=3, cycle_max=1)
        self.loops = Loops(self.policy)
        self.under_way: list[int] = []
        self.came: list[tuple[int, str]] = []
        self.written = 0

    @rule(args=st.integers(0, 3))
    def ask(self, args: int) -> None:
        """A call may run if it stays within the limit, should all under way come to the same."""
        classes = [came for call, came in self.came if call == args]
        worst = max((classes.count(came) for came in classes), default=0)
        free = worst + self.under_way.count(args) < self.policy.repeats_max
        assert (self.loops.ask("get", fingerprint(args)) is None) == free
        if free:
            self.under_way.append(args)

    @precondition(lambda self: self.under_way)
    @rule(came=st.sampled_from(["ok", "failed"]), place=st.integers(0, 100))
    def note(self, came: str, place: int) -> None:
        """Whatever call comes to its end counts from then on by what it came to."""
        args = self.under_way.pop(place % len(self.under_way))
        self.loops.note("get", fingerprint(args), came, b"")
        self.came.append((args, came))

    @precondition(lambda self: self.under_way)
    @rule(place=st.integers(0, 100))
    def drop(self, place: int) -> None:
        """A call that will have no result counts no more."""
        args = self.under_way.pop(place % len(self.under_way))
        self.loops.drop("get", fingerprint(args))

    @rule()
    def write(self) -> None:
        """A change that was not made before begins anew what is counted, not what is under way."""
        self.written += 1
        self.loops.note("write", fingerprint(self.written), "ok", b"", changed=True)
        self.came.clear()


TestBatches = Batches.TestCase

happened = st.one_of(
    st.tuples(st.just("call"), made, st.booleans()),
    st.tuples(st.just("step"), st.none(), st.booleans()),
    st.tuples(st.just("said"), st.integers(0, 2), st.booleans()),
)


@given(st.lists(happened, max_size=60), st.integers(0, 60))
def test_a_replay_comes_to_the_same(events: list[tuple[str, Any, bool]], cut: int) -> None:
    """Fed the same in the same order, a second guard gives every answer that the first gave."""
    policy = LoopPolicy(repeats_max=2, cycles_max=2, stale_steps_max=2)

    def feed(agent: Agent, events: list[tuple[str, Any, bool]]) -> list[Looping | None]:
        answers: list[Looping | None] = []
        for what, fact, flag in events:
            if what == "call":
                tool, args, came, changed = fact
                changed = changed and came == "ok"
                answers.append(agent.call(tool, args, came, changed=changed, polls=flag))
            elif what == "step":
                answers.append(agent.loops.model_step())
            else:
                agent.loops.said(fingerprint(fact))
        return answers

    whole, resumed = Agent(policy), Agent(policy)
    expected = feed(whole, events)
    assert feed(resumed, events[:cut]) + feed(resumed, events[cut:]) == expected


def test_memory_is_bounded() -> None:
    """A turn of a hundred thousand different calls remembers a few, and still sees a circle."""
    agent = Agent(memory=64)
    for number in range(100_000):
        agent.loops.note("get", number.to_bytes(4, "big"), f"class{number}", b"")
    for number in range(200):
        agent.loops.note("same", b"", f"class{number}", b"")
        agent.call("write", number, changed=True)
        agent.loops.said(number.to_bytes(4, "big"))
    held = [getattr(agent.loops, name) for name in Loops.__slots__]
    assert all(len(part) <= 64 for part in held if hasattr(part, "__len__"))
    assert agent.follow("AAA") is None
    refused(agent.call("A"))
