"""Spending: what a call may take is set aside before it is made, and what it took is paid after.

Keeps: what is spent and what is set aside never exceed a limit together at the moment something
is set aside, however many calls run side by side; of several accounts all give or none; what was
taken is recorded as it was, also where that is more than was set aside.
Leaves to the engine: which accounts a call has, what it may take, and their memory over a crash.

All sums are whole numbers (microseconds, billionths of a dollar), so that a thousand small amounts
given and taken leave exactly nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from undercroft.errors import SettingError
from undercroft.layers.breakers.policy import Budget, checked_number

US_PER_S = 1_000_000
NANO_PER_USD = 1_000_000_000

# Units in the order of the fields of `Amount`, by their names in a `Budget`.
UNITS = ("attempts", "time_s", "input_tokens", "output_tokens", "usd")
_ATTEMPTS, _TIME, _INPUT, _OUTPUT, _USD = range(len(UNITS))
_SCALES: tuple[int | None, ...] = (None, US_PER_S, None, None, NANO_PER_USD)

# What a model is told beside the text of a message: roles, separators.
MESSAGE_TOKENS = 8
# Twice what English takes, and about what the densest text of other languages does.
TOKENS_PER_BYTE = 0.5
_TELLING_BYTES = 4_096
_EXTRA_TOKENS_MAX = 8_192

# Of (input tokens, output tokens), in billionths of a dollar; None: nobody knows the price.
Cost = Callable[[int, int], int | None]


class Amount(NamedTuple):
    """So much of each unit.

    Attributes:
        attempts: Wire attempts.
        time_us: Microseconds of calls under way.
        input_tokens: Sent to models.
        output_tokens: Answered by models.
        usd_nano: Billionths of a dollar.
    """

    attempts: int = 0
    time_us: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd_nano: int = 0

    @classmethod
    def of(
        cls,
        *,
        attempts: int = 0,
        time_s: float = 0.0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        usd: float = 0.0,
    ) -> Amount:
        """Return an amount in the units of a `Budget`.

        Raises:
            SettingError: One of them is negative, not a number or endless.
        """
        given = (attempts, time_s, input_tokens, output_tokens, usd)
        for name, value, scale in zip(UNITS, given, _SCALES, strict=True):
            checked_number(name, value, least=0, whole=scale is None)
        return cls(attempts, to_us(time_s), input_tokens, output_tokens, to_nano(usd))

    @property
    def time_s(self) -> float:
        """Seconds of calls under way."""
        return self.time_us / US_PER_S

    @property
    def usd(self) -> float:
        """Money."""
        return self.usd_nano / NANO_PER_USD

    def plus(self, other: Amount) -> Amount:
        """Return both together."""
        return Amount(*[mine + theirs for mine, theirs in zip(self, other, strict=True)])

    def minus(self, other: Amount) -> Amount:
        """Return what is left without `other`; negative where that is more."""
        return Amount(*[mine - theirs for mine, theirs in zip(self, other, strict=True)])

    def beyond(self, other: Amount) -> Amount:
        """Return by how much this is more than `other`, unit by unit; 0 where it is not."""
        return Amount(*[max(0, mine - theirs) for mine, theirs in zip(self, other, strict=True)])

    @property
    def negative(self) -> bool:
        """Whether anything is below 0."""
        return min(self) < 0

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return any(self)


NOTHING = Amount()


def to_us(time_s: float) -> int:
    """Return seconds as the nearest number of microseconds."""
    return round(time_s * US_PER_S)


def to_nano(usd: float) -> int:
    """Return dollars as the nearest number of billionths."""
    return round(usd * NANO_PER_USD)


@dataclass(frozen=True, slots=True)
class Left:
    """What may still be set aside, unit by unit as in a `Budget`; None: no limit.

    Never below 0, also where more was taken than was allowed.
    """

    attempts: int | None = None
    time_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Short:
    """Nothing was set aside, because one account has too little left.

    Attributes:
        account: Its name.
        unit: As in `UNITS`.
        asked: What the call may take of it, in the unit of its name; 0 if that is not known.
        left: What may still be set aside.
        limit: Its limit.
        reserved: Set aside for calls under way; what they do not take comes back.
        setting: Where the limit is declared.
    """

    account: str
    unit: str
    asked: float
    left: float
    limit: float
    reserved: float = 0
    setting: str = ""

    @property
    def problem(self) -> str:
        """What stands in the way, for people."""
        aside = f", {_show(self.unit, self.reserved)} set aside for calls under way"
        asked = f", and this call may take {_show(self.unit, self.asked, bare=True)}"
        return (
            f"the budget of {self.account} is {_show(self.unit, self.limit)}: "
            f"{_show(self.unit, self.left, bare=True)} left{aside if self.reserved else ''}"
            f"{asked if self.asked else ''}"
        )

    @property
    def mend(self) -> str:
        """What to do next, for people."""
        where = self.setting or f"{self.unit}= of that budget"
        wait = ", or let the calls under way end first" if self.reserved else ""
        return f"Ask for less, or raise {where}{wait}."


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Nothing was set aside, because money is limited and nobody knows what the call costs.

    Attributes:
        account: That limits it.
        model: Whose price is not known.
    """

    account: str
    model: str

    @property
    def problem(self) -> str:
        """What stands in the way, for people."""
        return (
            f"the budget of {self.account} limits money, and the price of model "
            f"{self.model!r} is not known"
        )

    @property
    def mend(self) -> str:
        """What to do next, for people."""
        if not self.model:
            return (
                "Say which model it is with an attribute `name` of the model client, or limit "
                "tokens instead of money."
            )
        return (
            f"Give its price with prices=uc.PriceTable({{{self.model!r}: uc.Price(…, …)}}), or "
            "limit tokens instead of money."
        )


def _show(unit: str, value: float, *, bare: bool = False) -> str:
    if unit == "usd":
        whole, _, parts = f"{value:,.9f}".partition(".")
        return f"${whole}.{parts.rstrip('0').ljust(2, '0')}"
    if unit == "time_s":
        return f"{value:,.6f}".rstrip("0").rstrip(".") + " s"
    return f"{value:,}" if bare else f"{value:,} {unit.replace('_', ' ')}"


class Account:
    """What was spent of one budget, and what is set aside of it.

    Args:
        name: As errors say it, such as "the turn" or "service 'crm'".
        budget: What may be spent.
        setting: As errors say where the budget is declared.
    """

    __slots__ = ("_limited", "_reserved", "_spent", "budget", "name", "setting")

    def __init__(self, name: str, budget: Budget, *, setting: str = "") -> None:
        self.name, self.budget, self.setting = name, budget, setting
        limits = [
            None if limit is None else limit if scale is None else round(limit * scale)
            for limit, scale in zip([getattr(budget, unit) for unit in UNITS], _SCALES, strict=True)
        ]
        # Few are limited in practice, and only those are looked at before a call.
        self._limited = tuple((u, limit) for u, limit in enumerate(limits) if limit is not None)
        self._spent = [0] * len(UNITS)
        self._reserved = [0] * len(UNITS)

    @property
    def spent(self) -> Amount:
        """What was taken, and what is counted as taken since nobody knows better."""
        return Amount(*self._spent)

    @property
    def reserved(self) -> Amount:
        """What is set aside for calls under way."""
        return Amount(*self._reserved)

    @property
    def overrun(self) -> Amount:
        """What was taken beyond the limits; a call may take more than was set aside for it."""
        over = [0] * len(UNITS)
        for unit, limit in self._limited:
            over[unit] = max(0, self._spent[unit] - limit)
        return Amount(*over)

    def limits(self, unit: str) -> bool:
        """Return whether `unit`, as in `UNITS`, is limited."""
        return getattr(self.budget, unit) is not None

    def left(self) -> Left:
        """Return what may still be set aside."""
        left = {unit: self._left(unit, limit) for unit, limit in self._limited}
        time_us, usd_nano = left.get(_TIME), left.get(_USD)
        return Left(
            attempts=left.get(_ATTEMPTS),
            time_s=None if time_us is None else time_us / US_PER_S,
            input_tokens=left.get(_INPUT),
            output_tokens=left.get(_OUTPUT),
            usd=None if usd_nano is None else usd_nano / NANO_PER_USD,
        )

    def _left(self, unit: int, limit: int) -> int:
        return max(0, limit - self._spent[unit] - self._reserved[unit])

    def most(self, unit: int) -> int | None:
        """Return how much can be set aside of the unit of that place in `UNITS`; None: any."""
        for limited, limit in self._limited:
            if limited == unit:
                return self._left(unit, limit)
        return None

    def short(self, amount: Amount) -> Short | None:
        """Return what is missing for `amount`, if anything is; only what it asks for counts."""
        for unit, limit in self._limited:
            asked = amount[unit]
            if asked and self._spent[unit] + self._reserved[unit] + asked > limit:
                return self._short(unit, asked, limit)
        return None

    def _short(self, unit: int, asked: int, limit: int) -> Short:
        return Short(
            account=self.name,
            unit=UNITS[unit],
            asked=_public(unit, asked),
            left=_public(unit, self._left(unit, limit)),
            limit=_public(unit, limit),
            reserved=_public(unit, self._reserved[unit]),
            setting=self.setting,
        )

    def charge(self, amount: Amount) -> None:
        """Record what was taken without having been set aside."""
        for unit, number in enumerate(amount):
            self._spent[unit] += max(0, number)

    def restore(self, spent: Amount, abandoned: Iterable[Amount] = ()) -> None:
        """Say what was spent before; nothing is set aside from now on.

        Args:
            spent: As it was recorded.
            abandoned: Set aside for calls of which nobody knows what they took, because a crash
                cut them off. They count as if they had taken all of it.
        """
        total = spent
        for amount in abandoned:
            total = total.plus(amount)
        self._spent[:] = total
        self._reserved[:] = NOTHING

    @property
    def overdrawn(self) -> bool:
        """Whether more is spent and set aside together than is allowed."""
        return any(
            self._spent[unit] + self._reserved[unit] > limit for unit, limit in self._limited
        )

    def learned(self, spent: Amount) -> None:
        """Say what everybody spent by now, whoever has this account too; reservations stay."""
        self._spent[:] = spent

    def __repr__(self) -> str:
        return f"Account({self.name!r}, spent={self.spent}, reserved={self.reserved})"


def _public(unit: int, number: int) -> float:
    scale = _SCALES[unit]
    return number if scale is None else number / scale


class Reservation:
    """What is set aside for one call in all its accounts, until somebody says what it took.

    The first word counts: after `settle`, `cancel` or `abandon` each of them does nothing.

    Attributes:
        amount: What is set aside.
        open: Whether nobody has said yet what the call took.
    """

    __slots__ = ("_accounts", "amount", "open")

    def __init__(self, accounts: tuple[Account, ...], amount: Amount) -> None:
        self._accounts, self.amount, self.open = accounts, amount, True

    def extend(self, amount: Amount) -> Short | None:
        """Set aside more for the same call, such as for an attempt that a client library makes.

        Returns:
            What is missing, if anything is; then it stays as it was.

        Raises:
            SettingError: Something of `amount` is negative.
            RuntimeError: The call is over.
        """
        if not self.open:
            msg = "a reservation cannot be extended after it was settled"
            raise RuntimeError(msg)
        short = _take(self._accounts, amount)
        if short is None:
            self.amount = self.amount.plus(amount)
        return short

    def settle(self, actual: Amount) -> Amount:
        """Say what the call took; what it did not take comes back.

        Args:
            actual: As it was. A unit below 0 is no news, and what was set aside counts as taken.

        Returns:
            By how much it is more than was set aside, unit by unit. Also that is recorded.
        """
        if not self.open:
            return NOTHING
        if actual.negative:
            pairs = zip(actual, self.amount, strict=True)
            actual = Amount(*[was if was >= 0 else aside for was, aside in pairs])
        self._close(actual)
        return actual.beyond(self.amount)

    def cancel(self) -> None:
        """Say that the call was not made: all of it comes back."""
        self._close(NOTHING)

    def abandon(self) -> None:
        """Say that nobody will know what the call took: all that was set aside counts as taken."""
        self._close(self.amount)

    def _close(self, actual: Amount) -> None:
        if not self.open:
            return
        self.open = False
        for account in self._accounts:
            spent, reserved = account._spent, account._reserved  # noqa: SLF001  one ledger
            for unit, aside in enumerate(self.amount):
                reserved[unit] -= aside
                spent[unit] += actual[unit]


def reserve(accounts: Sequence[Account], amount: Amount) -> Reservation | Short:
    """Set `amount` aside in all `accounts`, or in none.

    Args:
        accounts: From the narrowest to the widest; the first that is short is told of. One that is
            named twice counts once.
        amount: The most that the call may take.

    Raises:
        SettingError: Something of `amount` is negative.
    """
    mine = tuple(dict.fromkeys(accounts)) if len(accounts) > 1 else tuple(accounts)
    short = _take(mine, amount)
    return Reservation(mine, amount) if short is None else short


def _take(accounts: tuple[Account, ...], amount: Amount) -> Short | None:
    if min(amount) < 0:
        raise SettingError("amount", tuple(amount), "at least 0 of each unit")
    for account in accounts:
        short = account.short(amount)
        if short is not None:
            return short
    for account in accounts:
        reserved = account._reserved  # noqa: SLF001  one ledger
        for unit, asked in enumerate(amount):
            reserved[unit] += asked
    return None


def most(accounts: Iterable[Account], unit: str) -> int | None:
    """Return how much of `unit` can be set aside in all `accounts`; None: as much as one likes.

    Microseconds of `time_s`, billionths of `usd`.
    """
    number = UNITS.index(unit)
    lefts = [account.most(number) for account in accounts]
    return min((left for left in lefts if left is not None), default=None)


def reserve_answer(  # noqa: PLR0913  each keyword is one fact of a call to a model
    accounts: Sequence[Account],
    *,
    model: str,
    input_tokens: int,
    answer_tokens: int,
    cost: Cost | None = None,
    time_us: int = 0,
) -> Reservation | Short | Unpriced:
    """Set aside what one attempt at a model's answer may take, the answer cut to what is left.

    The model is to be asked for `amount.output_tokens` of what is returned, and no more.

    Args:
        accounts: As in `reserve`.
        model: Its name, for errors.
        input_tokens: The most that the prompt may be, see `TokenRatio.estimate`.
        answer_tokens: The most that is asked for; at least 1.
        cost: Of so many tokens in and out; grows with either.
        time_us: The most that it may take.
    """
    left = most(accounts, "output_tokens")
    output = answer_tokens if left is None else max(1, min(answer_tokens, left))
    price = cost(input_tokens, output) if cost is not None else None
    money = most(accounts, "usd")
    if money is not None:
        if cost is None or price is None:
            whose = next(account.name for account in accounts if account.limits("usd"))
            return Unpriced(whose, model)
        output = _affordable(cost, input_tokens, output, money)
        price = cost(input_tokens, output)
    amount = Amount(1, time_us, input_tokens, output, max(0, price or 0))
    return reserve(accounts, amount)


def _affordable(cost: Cost, input_tokens: int, output: int, money: int) -> int:
    """Return the longest answer that `money` pays for, or 1 where it pays for none."""
    if _paid(cost, input_tokens, output, money):
        return output
    low, high = 1, output
    while high - low > 1:
        middle = (low + high) // 2
        if _paid(cost, input_tokens, middle, money):
            low = middle
        else:
            high = middle
    return low


def _paid(cost: Cost, input_tokens: int, output: int, money: int) -> bool:
    price = cost(input_tokens, output)
    return price is not None and price <= money


def actual_of(reserved: Amount, **known: Any) -> Amount:
    """Return what a call took: as it is `known`, and else as was set aside.

    Args:
        reserved: What was set aside.
        known: By field of `Amount`; None or below 0 where a provider said nothing, or nonsense.
    """
    said = {
        name: value
        for name, value in known.items()
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0
    }
    return reserved._replace(**said)


class TokenRatio:
    """How many tokens a model makes of a byte of prompt, learned from what its provider reports.

    Starts at half a token per byte, and follows the densest long prompt that was seen, up to one:
    no token is shorter than a byte. What that does not explain (a provider's own words about
    tools) is learned as a number of its own, added to every prompt. Both only grow, so a prompt
    like one that was seen is never underestimated.
    """

    __slots__ = ("extra_tokens", "ratio")

    def __init__(self) -> None:
        self.ratio = TOKENS_PER_BYTE
        self.extra_tokens = 0

    def estimate(self, prompt_bytes: int, messages: int) -> int:
        """Return how many tokens a prompt of so many bytes of UTF-8 may be."""
        return math.ceil(prompt_bytes * self.ratio) + messages * MESSAGE_TOKENS + self.extra_tokens

    def saw(self, prompt_bytes: int, messages: int, input_tokens: int) -> None:
        """Learn from what a provider reported; nonsense teaches little."""
        over = input_tokens - messages * MESSAGE_TOKENS - self.extra_tokens
        # In a short prompt what is added weighs more than the text, and would pass for density.
        if over > prompt_bytes * self.ratio and prompt_bytes >= _TELLING_BYTES:
            self.ratio = min(1.0, over / prompt_bytes)
        missing = over - math.ceil(prompt_bytes * self.ratio)
        if missing > 0:
            self.extra_tokens = min(_EXTRA_TOKENS_MAX, self.extra_tokens + missing)
