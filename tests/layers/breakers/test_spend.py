"""Spending: set aside before, paid after, never overshot by calls side by side."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from undercroft.errors import SettingError
from undercroft.layers.breakers.policy import NO_BUDGET, Budget
from undercroft.layers.breakers.prices import Price
from undercroft.layers.breakers.spend import (
    MESSAGE_TOKENS,
    NOTHING,
    UNITS,
    Account,
    Amount,
    Left,
    Reservation,
    Short,
    TokenRatio,
    Unpriced,
    actual_of,
    most,
    reserve,
    reserve_answer,
)

numbers = st.integers(0, 60)
amounts = st.builds(Amount, *[numbers] * len(UNITS))
limits = st.none() | st.integers(0, 200)
NARROW, WIDE, FREE = range(3)


def taken(result: Reservation | Short | Unpriced) -> Reservation:
    """Return what was set aside; fail if nothing was."""
    assert isinstance(result, Reservation), result
    return result


def short(result: Reservation | Short | Unpriced) -> Short:
    """Return what is missing; fail if nothing is."""
    assert isinstance(result, Short), result
    return result


def budget(whole: tuple[int | None, ...]) -> Budget:
    """Return a budget whose limits are these in the units of an amount."""
    attempts, time_us, input_tokens, output_tokens, usd_nano = whole
    return Budget(
        attempts=attempts,
        time_s=None if not time_us else time_us / 1e6,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        usd=None if usd_nano is None else usd_nano / 1e9,
    )


# Amounts


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", None, True])
def test_an_amount_is_of_sensible_numbers(unit: str, value: Any) -> None:
    """What is negative, endless or no number is no amount, and the error names the unit."""
    with pytest.raises(SettingError, match=unit):
        Amount.of(**{unit: value})


def test_small_sums_leave_nothing_behind() -> None:
    """Ten times a dime is a dollar, and what is taken back leaves exactly nothing."""
    account = Account("a", Budget(usd=1.0, time_s=1.0))
    dime = Amount.of(usd=0.1, time_s=0.1)
    ten = [taken(reserve([account], dime)) for _ in range(10)]
    assert short(reserve([account], Amount.of(usd=1e-9))).left == 0
    for reservation in ten:
        reservation.cancel()
    assert account.spent == account.reserved == NOTHING
    assert account.left() == Left(time_s=1.0, usd=1.0)


@given(amounts, amounts)
def test_amounts_add_up(one: Amount, other: Amount) -> None:
    """What is added and taken away again is as before, and what is beyond is never negative."""
    assert one.plus(other).minus(other) == one
    assert one.plus(other) == other.plus(one)
    assert one.minus(other).negative == any(a < b for a, b in zip(one, other, strict=True))
    assert not one.beyond(other).negative
    assert one.beyond(other).minus(other.beyond(one)) == one.minus(other)
    assert bool(one) == (one != NOTHING)
    assert Amount.of(time_s=one.time_s, usd=one.usd) == Amount(0, one.time_us, 0, 0, one.usd_nano)
    assert one.time_s * 1e6 == pytest.approx(one.time_us)
    assert one.usd * 1e9 == pytest.approx(one.usd_nano)


# All or nothing, over several accounts


class Spending(RuleBasedStateMachine):
    """Three accounts beside a list of every call and what became of it."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[tuple[int | None, ...]] = [
            (3, 100, 80, None, 120),
            (10, None, 150, 90, 300),
            (None, None, None, None, None),
        ]
        self.accounts = [Account(f"a{n}", budget(whole)) for n, whole in enumerate(self.limits)]
        self.open: list[tuple[list[int], Reservation]] = []
        self.spent = [[0] * len(UNITS) for _ in self.limits]

    def free(self, number: int) -> list[float]:
        """Return by unit what a new call may have, by adding up all there is."""
        aside = [r.amount for whose, r in self.open if number in whose]
        return [
            math.inf
            if limit is None
            else limit - self.spent[number][unit] - sum(amount[unit] for amount in aside)
            for unit, limit in enumerate(self.limits[number])
        ]

    def fits(self, number: int, amount: Amount) -> bool:
        """Return whether an account has what is asked of it."""
        pairs = zip(amount, self.free(number), strict=True)
        return all(asked == 0 or asked <= free for asked, free in pairs)

    @rule(
        whose=st.lists(st.integers(0, 2), min_size=1, max_size=4),
        amount=amounts,
    )
    def ask(self, whose: list[int], amount: Amount) -> None:
        """All accounts give, each once, or none does and the first that is short is named."""
        result = reserve([self.accounts[number] for number in whose], amount)
        lacking = [number for number in dict.fromkeys(whose) if not self.fits(number, amount)]
        if lacking:
            missing = short(result)
            assert missing.account == f"a{lacking[0]}"
            unit = UNITS.index(missing.unit)
            assert amount[unit] > self.free(lacking[0])[unit]
        else:
            self.open.append((list(dict.fromkeys(whose)), taken(result)))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), amount=amounts)
    def extend(self, data: st.DataObject, amount: Amount) -> None:
        """More for a call under way is given by all its accounts, or by none."""
        whose, reservation = data.draw(st.sampled_from(self.open))
        before = reservation.amount
        fits = all(self.fits(number, amount) for number in whose)
        missing = reservation.extend(amount)
        assert (missing is None) == fits
        assert reservation.amount == (before.plus(amount) if fits else before)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), how=st.sampled_from(["settle", "cancel", "abandon"]), actual=amounts)
    def close(self, data: st.DataObject, how: str, actual: Amount) -> None:
        """What it took is spent and the rest comes back, and only the first word counts."""
        whose, reservation = data.draw(st.sampled_from(self.open))
        self.open.remove((whose, reservation))
        if how == "settle":
            assert reservation.settle(actual) == actual.beyond(reservation.amount)
        elif how == "cancel":
            actual = NOTHING
            reservation.cancel()
        else:
            actual = reservation.amount
            reservation.abandon()
        for number in whose:
            self.spent[number] = [a + b for a, b in zip(self.spent[number], actual, strict=True)]
        reservation.abandon()
        reservation.cancel()
        assert reservation.settle(Amount(9, 9, 9, 9, 9)) == NOTHING

    @rule(number=st.integers(0, 2), amount=amounts)
    def charge(self, number: int, amount: Amount) -> None:
        """What was taken without asking is spent all the same."""
        self.accounts[number].charge(amount)
        self.spent[number] = [a + b for a, b in zip(self.spent[number], amount, strict=True)]

    @invariant()
    def books_agree(self) -> None:
        """What is spent, set aside and left agrees with the list of calls."""
        for number, account in enumerate(self.accounts):
            aside = [r.amount for whose, r in self.open if number in whose]
            assert list(account.spent) == self.spent[number]
            columns = zip(NOTHING, *aside, strict=True)
            assert list(account.reserved) == [sum(column) for column in columns]
            for unit, limit in enumerate(self.limits[number]):
                if limit is None:
                    assert account.most(unit) is None
                    assert account.overrun[unit] == 0
                else:
                    assert account.most(unit) == max(0, self.free(number)[unit])
                    assert account.overrun[unit] == max(0, self.spent[number][unit] - limit)


TestSpending = Spending.TestCase


@given(
    st.lists(st.tuples(limits, limits, limits, limits, limits), min_size=1, max_size=4),
    st.lists(st.tuples(amounts, st.integers(0, 5), st.floats(0, 1)), max_size=30),
)
def test_calls_side_by_side_never_overshoot(
    wholes: list[tuple[int | None, ...]], calls: list[tuple[Amount, int, float]]
) -> None:
    """As long as no call takes more than it said, no account ever goes above its limit."""
    accounts = [Account(str(n), budget(whole)) for n, whole in enumerate(wholes)]
    under_way: list[Reservation] = []
    for amount, ends, share in calls:
        result = reserve(accounts, amount)
        if isinstance(result, Reservation):
            under_way.append(result)
        if ends < len(under_way):
            over = under_way.pop(ends)
            over.settle(Amount(*[int(number * share) for number in over.amount]))
        for account, whole in zip(accounts, wholes, strict=True):
            for unit, limit in enumerate(whole):
                if account.limits(UNITS[unit]):
                    assert limit is not None
                    assert account.spent[unit] + account.reserved[unit] <= limit


def test_none_gives_where_one_is_short() -> None:
    """Where the widest account is short, the narrower ones keep what they have."""
    step, turn = Account("the step", Budget(attempts=5)), Account("the turn", Budget(attempts=1))
    taken(reserve([step, turn], Amount(attempts=1)))
    missing = short(reserve([step, turn], Amount(attempts=2)))
    assert (missing.account, missing.unit) == ("the turn", "attempts")
    assert (missing.asked, missing.left, missing.limit, missing.reserved) == (2, 0, 1, 1)
    assert step.reserved == Amount(attempts=1)


def test_only_what_is_asked_for_can_be_short() -> None:
    """Whoever asks for no tokens is not held up by a budget of tokens that is used up."""
    account = Account("a", Budget(output_tokens=10))
    taken(reserve([account], Amount(output_tokens=10))).settle(Amount(output_tokens=25))
    assert account.overrun == Amount(output_tokens=15)
    assert account.left() == Left(output_tokens=0)
    taken(reserve([account], Amount(attempts=1)))
    assert short(reserve([account], Amount(output_tokens=1))).left == 0


def test_what_nobody_limits_is_counted_all_the_same() -> None:
    """An account without limits gives whatever is asked, and knows what was spent."""
    account = Account("free", NO_BUDGET)
    taken(reserve([account], Amount(7, 7, 7, 7, 7))).settle(Amount(1, 2, 3, 4, 5))
    assert account.spent == Amount(1, 2, 3, 4, 5)
    assert account.left() == Left()
    assert most([account], "usd") is None


def test_a_negative_amount_is_refused() -> None:
    """Nobody gets budget back by asking for less than nothing."""
    account = Account("a", Budget(attempts=1))
    with pytest.raises(SettingError, match="amount"):
        reserve([account], Amount(attempts=-1))
    reservation = taken(reserve([account], Amount(attempts=1)))
    with pytest.raises(SettingError, match="amount"):
        reservation.extend(Amount(output_tokens=-1))
    reservation.cancel()
    with pytest.raises(RuntimeError, match="settled"):
        reservation.extend(Amount(attempts=1))


def test_nonsense_in_a_report_counts_as_what_was_set_aside() -> None:
    """A unit below 0 is no news: what was set aside of it counts as taken."""
    account = Account("a", Budget(input_tokens=100))
    reservation = taken(reserve([account], Amount(input_tokens=40, output_tokens=9)))
    assert reservation.settle(Amount(input_tokens=-1_000, output_tokens=12)) == Amount(
        output_tokens=3
    )
    assert account.spent == Amount(input_tokens=40, output_tokens=12)


@given(amounts, st.lists(amounts, max_size=5))
def test_a_crash_costs_what_was_set_aside(spent: Amount, cut_off: list[Amount]) -> None:
    """After a crash, calls that were under way count as if they had taken all they might have."""
    before = Account("a", NO_BUDGET)
    taken(reserve([before], spent)).settle(spent)
    for amount in cut_off:
        taken(reserve([before], amount)).abandon()

    after = Account("a", NO_BUDGET)
    taken(reserve([after], Amount(9, 9, 9, 9, 9)))
    after.restore(spent, cut_off)
    assert after.spent == before.spent
    assert after.reserved == NOTHING


def test_what_is_short_says_where_and_what_to_do() -> None:
    """The text names the account, its limit, what is left, what was asked and where to raise it."""
    setting = "Budgets(turn=uc.Budget(output_tokens=…))"
    turn = Account("the turn", Budget(output_tokens=4_096, usd=0.5, time_s=90), setting=setting)
    taken(reserve([turn], Amount(output_tokens=4_000)))
    missing = short(reserve([turn], Amount(output_tokens=500)))
    assert missing.problem == (
        "the budget of the turn is 4,096 output tokens: 96 left, 4,000 output tokens set aside "
        "for calls under way, and this call may take 500"
    )
    assert missing.mend == (
        f"Ask for less, or raise {setting}, or let the calls under way end first."
    )
    missing = short(reserve([turn], Amount.of(usd=0.75)))
    assert (
        missing.problem
        == "the budget of the turn is $0.50: $0.50 left, and this call may take $0.75"
    )
    missing = short(reserve([Account("a", Budget(time_s=1.5))], Amount.of(time_s=30)))
    assert missing.problem == "the budget of a is 1.5 s: 1.5 s left, and this call may take 30 s"
    assert missing.mend == "Ask for less, or raise time_s= of that budget."


# Calls to models


def test_an_answer_is_cut_to_what_is_left() -> None:
    """A model is asked for no more tokens than are left, and not called if there are none."""
    turn = Account("the turn", Budget(output_tokens=1_000))

    def ask() -> Reservation | Short | Unpriced:
        return reserve_answer([turn], model="m", input_tokens=50, answer_tokens=700)

    first, second = taken(ask()), taken(ask())
    assert first.amount == Amount(1, 0, 50, 700, 0)
    assert second.amount.output_tokens == 300
    assert short(ask()).unit == "output_tokens"
    first.settle(actual_of(first.amount, output_tokens=20))
    assert taken(ask()).amount.output_tokens == 680


@given(
    input_price=st.integers(0, 50),
    output_price=st.integers(0, 50),
    input_tokens=st.integers(0, 5_000),
    answer_tokens=st.integers(1, 5_000),
    money_nano=st.integers(0, 10**8),
)
def test_an_answer_is_as_long_as_the_money_pays_for(
    input_price: int, output_price: int, input_tokens: int, answer_tokens: int, money_nano: int
) -> None:
    """What is set aside is affordable, and one token more is not or was not asked for."""
    account = Account("a", Budget(usd=money_nano / 1e9))
    cost = Price(input_price, output_price).cost_nano
    result = reserve_answer(
        [account],
        model="m",
        input_tokens=input_tokens,
        answer_tokens=answer_tokens,
        cost=cost,
    )
    if isinstance(result, Reservation):
        output = result.amount.output_tokens
        assert result.amount.usd_nano == cost(input_tokens, output) <= money_nano
        assert 1 <= output <= answer_tokens
        assert output == answer_tokens or cost(input_tokens, output + 1) > money_nano
    else:
        assert short(result).unit == "usd"
        assert cost(input_tokens, 1) > money_nano


@pytest.mark.parametrize("pays_for", [0, 1, 2, 3, 9, 10])
def test_the_last_token_that_is_paid_for_is_asked_for(pays_for: int) -> None:
    """Money for one token pays for an answer of one token, and money for none for no answer."""
    account = Account("a", Budget(usd=(5 + pays_for) / 1e6))
    result = reserve_answer(
        [account], model="m", input_tokens=5, answer_tokens=9, cost=Price(1, 1).cost_nano
    )
    if pays_for:
        assert taken(result).amount.output_tokens == min(9, pays_for)
    else:
        assert short(result).asked == 6 / 1e6


def test_no_model_without_a_price_is_called_under_a_budget_of_money() -> None:
    """Where money is limited, a model whose price nobody knows is refused by name; else called."""
    rich, free = Account("the session", Budget(usd=100)), Account("the turn", Budget(attempts=3))
    for cost in (None, lambda _in, _out: None):
        result = reserve_answer(
            [free, rich], model="acme-9", input_tokens=1, answer_tokens=1, cost=cost
        )
        assert isinstance(result, Unpriced)
        assert "the session" in result.problem
        assert "'acme-9'" in result.problem
        assert "uc.PriceTable({'acme-9'" in result.mend
        assert "attribute `name`" in Unpriced("the session", "").mend
        assert rich.reserved == free.reserved == NOTHING
        amount = taken(
            reserve_answer([free], model="acme-9", input_tokens=1, answer_tokens=1, cost=cost)
        ).amount
        assert amount == Amount(1, 0, 1, 1, 0)
        free.restore(NOTHING)


def test_what_a_provider_does_not_say_is_as_was_set_aside() -> None:
    """Missing or senseless usage is never taken for a call that cost nothing."""
    aside = Amount(1, 10, 500, 400, 9)
    assert actual_of(aside, input_tokens=None, output_tokens=-3) == aside
    assert actual_of(aside, input_tokens=7, output_tokens="8") == aside._replace(input_tokens=7)


prompts = st.tuples(st.integers(0, 100_000), st.integers(0, 50))


@given(st.lists(st.tuples(prompts, st.floats(0, 1), st.integers(0, 3_000)), max_size=20))
def test_a_prompt_that_was_seen_is_never_underestimated(
    seen: list[tuple[tuple[int, int], float, int]],
) -> None:
    """Whatever a provider reported for prompts so far, the same prompts are reserved in full."""
    ratio = TokenRatio()
    for (prompt_bytes, messages), density, extra in seen:
        ratio.saw(prompt_bytes, messages, int(prompt_bytes * density) + extra)
    for (prompt_bytes, messages), density, extra in seen:
        assert ratio.estimate(prompt_bytes, messages) >= int(prompt_bytes * density) + extra
    assert 0.5 <= ratio.ratio <= 1


def test_a_ratio_is_learned_from_long_prompts() -> None:
    """What a provider adds to a short prompt does not pass for dense text, nor does nonsense."""
    ratio = TokenRatio()
    assert ratio.estimate(1_001, 2) == 501 + 2 * MESSAGE_TOKENS
    ratio.saw(40, 1, 400)
    assert ratio.ratio == 0.5
    assert ratio.estimate(100_000, 1) < 51_000
    ratio.saw(10_000, 1, 7_000)
    assert 0.6 < ratio.ratio < 0.7
    ratio.saw(10_000, 1, 10**12)
    assert ratio.ratio == 1
    assert ratio.estimate(10_000, 1) < 20_000
    ratio.saw(-5, 1, -5)
