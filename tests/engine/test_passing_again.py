"""Whether and when a call is made again, and what its errors mean for its service."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.engine.test_passing import CALL, ONE_FAILURE, OVERLOADED, caller, one
from tests.engine.vendor import (
    Jitter,
    Vendor,
    assistant,
    batch,
    check_given_back,
    gate,
    virtual,
)
from undercroft.engine.system import SystemClock
from undercroft.errors import DomainError, ServiceError, UnknownOutcomeError
from undercroft.model.step import ErrorClass
from undercroft.testing import ScriptedModel, run_virtual

THRICE = uc.Retry(attempts=3, wait_s=1)


def said(status: int, code: str = "", retry_after_s: float | None = None) -> ServiceError:
    """Return an answer of an HTTP service that says it failed."""
    return ServiceError("vendor", "it says so", status, code, retry_after_s)


# ---------------------------------------------------------------------- which errors


@pytest.mark.parametrize(
    ("error", "kind", "calls"),
    [
        (ConnectionError("reset"), "read", 3),
        (TimeoutError("slow"), "read", 3),
        (said(503), "read", 3),
        (said(529), "read", 3),
        (said(429), "read", 3),
        (said(500), "read", 3),
        (OVERLOADED, "read", 3),
        (said(400), "read", 1),
        (said(401), "read", 1),
        (said(404), "read", 1),
        (said(429, "insufficient_quota"), "read", 1),
        (DomainError("no"), "read", 1),
        (ValueError("bug"), "read", 1),
        (UnknownOutcomeError("?"), "read", 1),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}, "read", 1),
        (ConnectionRefusedError("nobody"), "write", 3),
        (said(429), "write", 3),
        (said(503), "write", 3),
        (said(500), "write", 1),
        (TimeoutError("slow"), "write", 1),
        (ConnectionResetError("reset"), "write", 1),
        (UnknownOutcomeError("?"), "write", 1),
        (DomainError("no"), "write", 1),
    ],
)
def test_only_what_may_go_well_the_next_time_is_tried_again(
    error: Any, kind: str, calls: int
) -> None:
    """Transient and overloaded are; permanent, domain, quota and unknown are not."""

    @virtual
    async def main() -> None:
        vendor = Vendor([error])
        async with uc.Runtime() as rt:
            await rt.run(one(vendor, kind, retry=THRICE))
            assert len(vendor.calls) == calls
            check_given_back(rt, "vendor")

    main()


@pytest.mark.parametrize(
    ("error", "opens"),
    [
        (ConnectionError("reset"), True),
        (said(503), True),
        (said(529), True),
        (OVERLOADED, True),
        (said(429), False),
        (said(429, "insufficient_quota"), False),
        (said(400), False),
        (said(404), False),
        (DomainError("no"), False),
        (ValueError("bug"), False),
    ],
)
def test_only_the_failures_of_a_service_open_its_breaker(error: Any, *, opens: bool) -> None:
    """What the business said, what we did wrong and what we have no right to does not."""

    @virtual
    async def main() -> None:
        vendor = Vendor([error])
        breaker = uc.BreakerPolicy(failures_max=3, window_calls=6, calls_min=3)
        async with uc.Runtime(services=[uc.Service("vendor", breaker=breaker)]) as rt:
            for _ in range(6):
                await rt.run(one(vendor))
                await asyncio.sleep(1)
            state = gate(rt, "vendor").circuit.state
            assert (state == "open") is opens, state

    main()


@virtual
async def test_an_answer_that_is_an_error_is_the_failure_of_the_call() -> None:
    """A 200 whose body says it failed has the class that its code has."""
    vendor = Vendor([OVERLOADED, {"data": "fine"}])
    async with uc.Runtime() as rt:
        handler = batch([caller(vendor)], CALL)
        first = await rt.run(handler)
        assert first.status == "degraded"
        assert first.value == ["ServiceError"]
        (step,) = rt.trace(first.turn_id).steps
        assert step.error is not None
        assert (step.error.error_class, step.error.blame) == ("overloaded", "vendor")
        assert gate(rt, "vendor").circuit.metrics(1.0).failures == 1
        assert (await rt.run(handler)).value == ["ok"]


@virtual
async def test_a_rule_of_the_user_decides() -> None:
    """Before our own table: what it calls domain is neither tried again nor a failure."""
    rules = [
        uc.ErrorRule(ConnectionError, ErrorClass.DOMAIN),
        uc.ErrorRule(KeyError, ErrorClass.TRANSIENT),
    ]
    vendor = Vendor([ConnectionError("really a no"), KeyError("really a hiccup"), "fine"])
    service = uc.Service("vendor", errors=rules, retry=THRICE, breaker=ONE_FAILURE)
    async with uc.Runtime(services=[service]) as rt:
        outcome = await rt.run(one(vendor))
        assert (outcome.status, len(vendor.calls)) == ("done", 1)
        assert gate(rt, "vendor").circuit.state == "closed"
        outcome = await rt.run(one(vendor))
        assert len(vendor.calls) == 2, "the breaker opened, and the next attempt was refused"
        assert outcome.status == "degraded"


@virtual
async def test_a_rule_does_not_make_a_write_of_unknown_outcome_repeatable() -> None:
    """A user who calls timeouts transient does not thereby double writes."""
    service = uc.Service(
        "vendor", errors=[uc.ErrorRule(TimeoutError, ErrorClass.TRANSIENT)], retry=THRICE
    )
    vendor = Vendor([TimeoutError("t"), "fine"])
    async with uc.Runtime(services=[service]) as rt:
        assert (await rt.run(one(vendor, "write"))).status == "in_doubt"
        assert len(vendor.calls) == 1
        assert (await rt.run(one(Vendor([TimeoutError("t"), "fine"])))).value == ["ok"]


@pytest.mark.parametrize("bad", [ValueError("bug"), "no class", 7, SystemExit(3)])
def test_a_classifier_that_fails_is_passed_over(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The table goes on without it, the turn ends as it would have, and somebody is told."""

    def classify(error: BaseException) -> Any:
        if isinstance(bad, BaseException):
            raise bad
        return bad

    @virtual
    async def main() -> None:
        vendor = Vendor([ConnectionError("x"), "fine"])
        service = uc.Service("vendor", classify=classify, retry=THRICE)
        async with uc.Runtime(services=[service]) as rt:
            with caplog.at_level(logging.WARNING):
                outcome = await rt.run(one(vendor))
            check_given_back(rt, "vendor")
            if not isinstance(bad, SystemExit):
                assert outcome.value == ["ok"]
                assert len(vendor.calls) == 2
                assert any("vendor" in record.getMessage() for record in caplog.records)

    main()


@virtual
async def test_an_error_that_cannot_be_shown_is_a_failure_like_any_other() -> None:
    """Whatever an error does when it is looked at, the call has failed and no more."""

    class RudeError(ConnectionError):
        def __str__(self) -> str:
            raise ValueError("no")

        __repr__ = __str__

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    for service in (uc.Service("vendor"), uc.Service("vendor", retry=THRICE)):
        async with uc.Runtime(services=[service]) as rt:
            outcome = await rt.run(one(Vendor([RudeError("x")])))
            assert outcome.status == "degraded"
            check_given_back(rt, "vendor")


# ---------------------------------------------------------------------- when


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_waits_are_drawn_between_nothing_and_a_bound_that_doubles(jitter: float) -> None:
    """Full jitter, from the port of randomness, up to the cap."""

    @virtual
    async def main() -> None:
        vendor = Vendor([ConnectionError("x")])
        retry = uc.Retry(attempts=6, wait_s=1, wait_max_s=5)
        service = uc.Service("vendor", breaker=None)
        async with uc.Runtime(ids=Jitter(jitter), services=[service]) as rt:
            await rt.run(one(vendor, retry=retry))
        waits = [after - before for before, after in pairwise(vendor.calls)]
        assert waits == pytest.approx([jitter * bound for bound in (1, 2, 4, 5, 5)])

    main()


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("hint_s", [0.0, 7.0, 60.0])
def test_a_service_is_not_asked_before_it_wants_to_be(status: int, hint_s: float) -> None:
    """`Retry-After` is obeyed to the second, also where our own wait would be shorter."""

    @virtual
    async def main() -> None:
        vendor = Vendor([said(status, retry_after_s=hint_s), "fine"])
        async with uc.Runtime(ids=Jitter(0.0)) as rt:
            outcome = await rt.run(one(vendor, retry=THRICE))
        assert outcome.value == ["ok"]
        first, second = vendor.calls
        assert second - first == pytest.approx(hint_s, abs=0.01)
        assert second - first >= hint_s - 1e-9

    main()


@pytest.mark.parametrize("hint_s", [604_800.0, 61.0])
@pytest.mark.parametrize("kind", ["read", "write"])
def test_nobody_waits_for_a_week(hint_s: float, kind: str) -> None:
    """A hint beyond what is waited for ends the attempts at once."""

    @virtual
    async def main() -> None:
        vendor = Vendor([said(503, retry_after_s=hint_s), "fine"])
        async with uc.Runtime() as rt:
            outcome = await rt.run(one(vendor, kind, retry=THRICE))
            assert outcome.status == "degraded"
            assert asyncio.get_running_loop().time() < 5
        assert len(vendor.calls) == 1

    main()


@virtual
async def test_no_attempt_is_made_that_cannot_end_in_time() -> None:
    """Where the turn would be over first, the step fails now and with its own error."""
    vendor = Vendor([said(503, retry_after_s=30)])
    async with uc.Runtime() as rt:
        outcome = await rt.run(one(vendor, retry=THRICE), timeout_s=10)
        assert asyncio.get_running_loop().time() < 1
        assert outcome.value == ["ServiceError"]
        assert len(vendor.calls) == 1


@virtual
async def test_what_a_call_takes_counts_against_the_deadline() -> None:
    """An attempt that takes 4 s in the middle does not begin 3 s before the end."""
    vendor = Vendor(["fine"] * 20, took_s=4)
    async with uc.Runtime(ids=Jitter(0.999)) as rt:
        for _ in range(10):
            await rt.run(one(vendor))
        failing = Vendor([ConnectionError("x")], took_s=4)
        before_s = asyncio.get_running_loop().time()
        outcome = await rt.run(one(failing, retry=uc.Retry(attempts=9, wait_s=1)), timeout_s=10)
        assert outcome.value == ["ConnectionError"], outcome.error
        assert all(began - before_s <= 6 for began in failing.calls)


@virtual
async def test_retries_stay_a_share_of_the_calls() -> None:
    """However often each call may be tried, a service in trouble is not asked much more often."""
    vendor = Vendor([ConnectionError("x")])

    @uc.tool(peeks="a/{i}", service="vendor", retry=uc.Retry(attempts=10, wait_s=0.01))
    async def call(i: int) -> Any:
        return await vendor()

    service = uc.Service("vendor", breaker=None, ratio=uc.RetryRatio(floor_per_min=0))
    async with uc.Runtime(services=[service]) as rt:
        await rt.run(batch([call], *[uc.Call("call", {"i": i}) for i in range(500)]))
        assert len(vendor.calls) <= 500 * 1.1 + 10
        assert gate(rt, "vendor").retries == len(vendor.calls) - 500


# ---------------------------------------------------------------------- probes


@virtual
async def test_a_probe_is_never_a_write_without_a_key() -> None:
    """Such a write is refused until a read or a keyed write has found the service well."""
    vendor = Vendor([ConnectionRefusedError("x"), "fine"])
    async with uc.Runtime(services=[uc.Service("vendor", breaker=ONE_FAILURE)]) as rt:
        await rt.run(one(vendor))
        await asyncio.sleep(11)
        for _ in range(3):
            assert (await rt.run(one(vendor, "write"))).value == ["breakers.open"]
        assert len(vendor.calls) == 1
        assert (await rt.run(one(vendor, "keyed"))).value == ["ok"]
        assert (await rt.run(one(vendor, "write"))).value == ["ok"]


@pytest.mark.parametrize("probes", [1, 2, 3])
def test_turns_share_the_permits_of_a_service_that_is_tried(probes: int) -> None:
    """Of thirty turns at once as many calls run as there are probes; the others are refused."""

    @virtual
    async def main() -> None:
        breaker = uc.BreakerPolicy(failures_max=1, failure_rate=None, open_s=10, probes=probes)
        vendor = Vendor([ConnectionError("x"), "fine"], took_s=1)
        async with uc.Runtime(services=[uc.Service("vendor", breaker=breaker)]) as rt:
            await rt.run(one(vendor))
            await asyncio.sleep(10)
            outcomes = await asyncio.gather(*(rt.run(one(vendor)) for _ in range(30)))
            values = [outcome.value[0] for outcome in outcomes]
            assert values.count("ok") == probes
            assert values.count("breakers.open") == 30 - probes
            assert vendor.most == probes
            assert gate(rt, "vendor").circuit.state == "closed"

    main()


@virtual
async def test_a_breaker_that_one_turn_opened_refuses_in_another() -> None:
    """A breaker belongs to the service, not to the turn, the tool or the handler."""
    vendor = Vendor([ConnectionError("x")])

    @uc.tool(reads="b", service="vendor")
    async def another() -> Any:
        return await vendor()

    flow = uc.Workflow("flow")

    @flow.read("c", service="vendor")
    async def third() -> Any:
        return await vendor()

    async with uc.Runtime(services=[uc.Service("vendor", breaker=ONE_FAILURE)]) as rt:
        await rt.run(one(vendor))
        assert (await rt.run(batch([another], uc.Call("another")))).value == ["breakers.open"]
        outcome = await rt.run(flow)
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert "vendor" in outcome.error.message
        assert len(vendor.calls) == 1


@virtual
async def test_late_results_change_nothing() -> None:
    """A late success does not close, and a late failure neither reopens nor extends."""
    slow_fine, slow_bad = Vendor(["fine"], took_s=5), Vendor([ConnectionError("late")], took_s=12)
    breaker = uc.BreakerPolicy(failures_max=1, failure_rate=None, open_s=10, probes=1)
    async with uc.Runtime(services=[uc.Service("vendor", breaker=breaker)]) as rt:
        circuit = gate(rt, "vendor").circuit
        fine = asyncio.ensure_future(rt.run(one(slow_fine)))
        bad = asyncio.ensure_future(rt.run(one(slow_bad)))
        await asyncio.sleep(1)
        await rt.run(one(Vendor([ConnectionError("x")])))
        assert circuit.state == "open"
        await fine
        assert circuit.state == "open"
        await asyncio.sleep(6.1)  # 11.1 s: the wait is over
        assert (await rt.run(one(Vendor()))).value == ["ok"]
        assert circuit.state == "closed"
        await bad
        assert circuit.state == "closed"
        check_given_back(rt, "vendor")


class Jumping(SystemClock):
    """A clock whose time of day jumps about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.wall_s = self._jump

    def _jump(self) -> float:
        self.asked += 1
        return 1.8e9 + (3600.0 if self.asked % 2 else -3600.0) * (self.asked % 7)


@virtual
async def test_the_time_of_day_may_jump() -> None:
    """An hour forwards or back changes no wait, no window and no budget."""
    vendor = Vendor([ConnectionError("x"), ConnectionError("x"), "fine"])
    clock = Jumping()
    breaker = uc.BreakerPolicy(failures_max=2, failure_rate=None, open_s=10, window_s=60)
    budgets = uc.Budgets(turn=uc.Budget(time_s=100))
    async with uc.Runtime(
        services=[uc.Service("vendor", breaker=breaker)], clock=clock, budgets=budgets
    ) as rt:
        for _ in range(2):
            await rt.run(one(vendor))
        for wait_s, value in ((0, "breakers.open"), (9.8, "breakers.open"), (0.3, "ok")):
            await asyncio.sleep(wait_s)
            assert (await rt.run(one(vendor))).value == [value]
        assert clock.asked > 20


# ---------------------------------------------------------------------- too many


@virtual
async def test_an_account_that_asks_too_much_is_slowed_down() -> None:
    """429: fewer calls in flight from now on, while the breaker stays closed."""

    class Strict(Vendor):
        async def __call__(self) -> Any:
            self.calls.append(0.0)
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                if self.running > 4:
                    raise said(429)
                await asyncio.sleep(1)
            finally:
                self.running -= 1
            return "fine"

    vendor = Strict()

    @uc.tool(peeks="a/{i}", service="vendor", retry=uc.Retry(attempts=20))
    async def call(i: int) -> Any:
        return await vendor()

    breaker = uc.BreakerPolicy(failures_max=1)
    service = uc.Service("vendor", breaker=breaker, ratio=uc.RetryRatio(ratio=1))
    async with uc.Runtime(services=[service]) as rt:
        tools = [call]
        await rt.run(batch(tools, *[uc.Call("call", {"i": i}) for i in range(20)]))
        found = gate(rt, "vendor")
        assert found.limit.cuts >= 1
        assert found.circuit.state == "closed"
        vendor.most = 0
        outcome = await rt.run(batch(tools, *[uc.Call("call", {"i": i}) for i in range(20)]))
        assert outcome.value == ["ok"] * 20
        assert vendor.most < 20
        check_given_back(rt, "vendor")


@virtual
async def test_a_pause_that_a_service_asks_for_holds_for_all_its_callers() -> None:
    """After a 429 with a hint nobody of the account calls before its time, in any turn."""
    vendor = Vendor([said(429, retry_after_s=20), "fine"])
    async with uc.Runtime() as rt:
        assert (await rt.run(one(vendor))).status == "degraded"
        outcomes = await asyncio.gather(*(rt.run(one(vendor)) for _ in range(5)))
        assert [outcome.value for outcome in outcomes] == [["ok"]] * 5
        assert min(vendor.calls[1:]) >= 20 - 1e-9
        check_given_back(rt, "vendor")


@virtual
async def test_a_used_up_quota_is_a_persons_business() -> None:
    """Not tried again, neither breaker nor limit moved, and the failure says so."""
    vendor = Vendor([said(429, "insufficient_quota", 5)])
    model = ScriptedModel([[CALL], "sorry"])
    breaker = uc.BreakerPolicy(failures_max=1)
    async with uc.Runtime(model=model, services=[uc.Service("vendor", breaker=breaker)]) as rt:
        outcome = await rt.run(assistant([caller(vendor, retry=THRICE)]))
        assert len(vendor.calls) == 1
        assert (outcome.status, outcome.missing) == ("degraded", ("call",))
        found = gate(rt, "vendor")
        assert (found.circuit.state, found.limit.limit) == ("closed", None)
        assert found.limit.pause_s(asyncio.get_running_loop().time()) == 0


# ---------------------------------------------------------------------- all of it together

WORDS: dict[str, Any] = {
    "f": "fine",
    "c": ConnectionError("x"),
    "r": ConnectionRefusedError("x"),
    "t": TimeoutError("x"),
    "m": said(429, retry_after_s=2),
    "o": said(503),
    "d": DomainError("no"),
    "b": ValueError("bug"),
    "u": UnknownOutcomeError("?"),
    "q": said(429, "insufficient_quota"),
}


@settings(max_examples=60, deadline=None)
@given(
    words=st.text(alphabet="".join(WORDS), min_size=1, max_size=12),
    turns=st.lists(
        st.tuples(
            st.sampled_from(["read", "write", "keyed"]),
            st.sampled_from([0.0, 0.5, 15.0]),
            st.sampled_from([None, 3.0]),
        ),
        min_size=1,
        max_size=8,
    ),
    took_s=st.sampled_from([0.0, 1.0, 4.0]),
    budget=st.sampled_from([None, 5, 1000]),
)
def test_in_any_order_of_events_everything_comes_back(
    words: str, turns: list[tuple[str, float, float | None]], took_s: float, budget: int | None
) -> None:
    """Any script of a service, turns that overlap and are cut off: at rest nothing is held."""

    async def main() -> None:
        vendor = Vendor([WORDS[word] for word in words], took_s=took_s)
        service = uc.Service(
            "vendor",
            breaker=uc.BreakerPolicy(failures_max=2, failure_rate=None, open_s=5, probes=1),
            retry=THRICE if budget is not None else None,
            budget=uc.Budget(attempts=budget) if budget is not None else uc.Budget(),
        )
        async with uc.Runtime(
            services=[service], ids=Jitter(0.7), ownership=uc.Ownership(wait_s=2)
        ) as rt:
            running = []
            for kind, wait_s, timeout_s in turns:
                await asyncio.sleep(wait_s)
                running.append(
                    asyncio.ensure_future(rt.run(one(vendor, kind), timeout_s=timeout_s))
                )
            outcomes = await asyncio.gather(*running)
            await asyncio.sleep(100)
            check_given_back(rt, "vendor")
            assert vendor.running == 0
            assert len(outcomes) == len(turns)
            if budget is not None:
                account = gate(rt, "vendor").account
                assert len(vendor.calls) <= budget
                assert account.spent.attempts == len(vendor.calls)

    run_virtual(main())
