"""What a model's tokens cost: a table that is given, or anything else that knows prices.

Keeps: no price is guessed. A model that is not known has none, and under a budget of money it is
not called.
Leaves to adapters: tables that somebody else keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from undercroft.errors import SettingError
from undercroft.layers.breakers.policy import checked_number

_MTOK = 1_000_000
_NANO_PER_USD = 1_000_000_000

# A date (2024-08-06, 20240806, 0613), `latest`, or a revision such as -v1:0; not a plain -v3 or
# -mini, which is another model at another price.
_MONTH_DAY = r"(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])"
_SUFFIX = re.compile(rf"(?:[-@](?:latest|20\d\d-?{_MONTH_DAY}|{_MONTH_DAY}|v\d+:\d+))+", re.ASCII)


@runtime_checkable
class Prices(Protocol):
    """Whoever knows what tokens cost."""

    def cost_nano(
        self, model: str, provider: str, input_tokens: int, output_tokens: int
    ) -> int | None:
        """Return what so many tokens cost, in billionths of a dollar; None: nobody knows.

        Never raises, never waits, and grows with the number of tokens.
        """


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost.

    Args:
        input_usd_per_mtok: Dollars for a million tokens of prompt; at least 0. Also a `Decimal`.
        output_usd_per_mtok: Dollars for a million tokens of answer; at least 0.

    Raises:
        SettingError: One is negative, not a number or endless.
    """

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    # The same in billionths, as whole numbers.
    _input_nano: int = field(init=False, repr=False, compare=False)
    _output_nano: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for side in ("input", "output"):
            name = f"{side}_usd_per_mtok"
            value: Any = getattr(self, name)
            if isinstance(value, Decimal):
                value = float(value)
                object.__setattr__(self, name, value)
            checked_number(name, value, least=0)
            object.__setattr__(self, f"_{side}_nano", round(Fraction(value) * _NANO_PER_USD))

    def cost_nano(self, input_tokens: int, output_tokens: int) -> int:
        """Return what so many tokens cost in billionths of a dollar, rounded up once."""
        cost = max(0, input_tokens) * self._input_nano
        cost += max(0, output_tokens) * self._output_nano
        return -(-cost // _MTOK)


class PriceTable(Mapping[str, Price]):
    """Prices by the name of a model.

        uc.PriceTable({"small-1": uc.Price(0.25, 1.25), "openai/large-2": uc.Price(3, 15)})

    A model is looked up as `provider/model`, then by its name alone; then without a date, the word
    `latest` or a revision at its end, unless a longer name is in the table: `small-1-2024-08-06`
    costs what `small-1` does, and `small-1-mini` is not known.

    Raises:
        SettingError: A name is empty or no text, or what it stands for is no `Price`.
    """

    __slots__ = ("_prices",)

    def __init__(self, prices: Mapping[str, Price]) -> None:
        if not isinstance(prices, Mapping):
            raise SettingError("prices", prices, "a mapping from a model's name to its uc.Price")
        given: dict[Any, Any] = dict(prices)
        for name, price in given.items():
            if not isinstance(name, str) or not name:
                raise SettingError("prices", name, "keyed by the name of a model")
            if not isinstance(price, Price):
                raise SettingError(f"prices[{name!r}]", price, "an uc.Price")
        self._prices: Mapping[str, Price] = MappingProxyType(given)

    def __getitem__(self, model: str) -> Price:
        return self._prices[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prices)

    def __len__(self) -> int:
        return len(self._prices)

    def __repr__(self) -> str:
        return f"PriceTable({dict(self._prices)!r})"

    def lookup(self, model: str, provider: str = "") -> Price | None:
        """Return the price of `model`; None: it is not known."""
        for name in (f"{provider}/{model}", model) if provider else (model,):
            if name in self._prices:
                return self._prices[name]
            known = [
                begin
                for begin in self._prices
                if name.startswith(begin) and _SUFFIX.fullmatch(name, len(begin))
            ]
            if known:
                return self._prices[max(known, key=len)]
        return None

    def cost_nano(
        self, model: str, provider: str, input_tokens: int, output_tokens: int
    ) -> int | None:
        """Return what so many tokens cost, in billionths of a dollar; None: nobody knows."""
        price = self.lookup(model, provider)
        return None if price is None else price.cost_nano(input_tokens, output_tokens)
