"""Prices: checked where they are given, and never guessed."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import SettingError
from undercroft.layers.breakers.prices import Price, Prices, PriceTable

TABLE = PriceTable(
    {
        "small-1": Price(0.25, 1.25),
        "small-1-2024-05-13": Price(5, 15),
        "large": Price(3, 15),
        "acme/large": Price(2, 10),
        "acme/own": Price(1, 1),
    }
)


@pytest.mark.parametrize("name", ["input_usd_per_mtok", "output_usd_per_mtok"])
@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, "1", None, True])
def test_a_price_is_a_sensible_number(name: str, value: Any) -> None:
    """A price that is negative, endless or no number fails where it is written, by name."""
    given: Any = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0, name: value}
    with pytest.raises(SettingError, match=name):
        Price(**given)
    with pytest.raises(SettingError, match="input_usd_per_mtok"):
        Price(Decimal("NaN"), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "prices", [None, [("a", Price(1, 1))], {"": Price(1, 1)}, {7: Price(1, 1)}]
)
def test_a_table_goes_by_names(prices: Any) -> None:
    """A table whose keys are no names of models is not a table."""
    with pytest.raises(SettingError, match="prices"):
        PriceTable(prices)


def test_a_table_holds_prices() -> None:
    """What is no price is named, with the model that it was given for."""
    with pytest.raises(SettingError, match=r"prices\['a'\].*uc\.Price"):
        PriceTable({"a": 0.25})  # type: ignore[dict-item]


@given(
    price=st.integers(0, 10**9).map(lambda number: Decimal(number) / 10**6),
    input_tokens=st.integers(0, 10**9),
    output_tokens=st.integers(0, 10**9),
)
def test_a_cost_is_exact_and_rounded_up_once(
    price: Decimal, input_tokens: int, output_tokens: int
) -> None:
    """No float creeps in: the cost is the exact product, rounded up to a billionth of a dollar."""
    cost = Price(float(price), float(price * 2)).cost_nano(input_tokens, output_tokens)
    exact = (input_tokens + 2 * output_tokens) * Fraction(price) * 1_000
    assert cost == math.ceil(exact)


def test_a_cost_is_never_negative() -> None:
    """Senseless numbers of tokens cost nothing, and never bring money in."""
    assert Price(1, 1).cost_nano(-5, 10) == 10_000
    assert Price(1, 1).cost_nano(10, -5) == 10_000
    assert Price(0, 0).cost_nano(10**9, 10**9) == 0


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        ("small-1", "", 0.25),
        ("small-1", "nobody", 0.25),
        ("small-1-2024-08-06", "", 0.25),
        ("small-1-20240806", "", 0.25),
        ("small-1@20240806", "", 0.25),
        ("small-1-20240806-v2:0", "", 0.25),
        ("small-1-latest", "", 0.25),
        ("small-1-0613", "", 0.25),
        ("small-1-2024-05-13", "", 5),
        ("small-1-2024-05-13-v1:0", "", 5),
        ("large", "acme", 2),
        ("large-latest", "acme", 2),
        ("large", "", 3),
        ("own", "acme", 1),
        ("acme/own", "", 1),
        ("own", "", None),
        ("small-1-mini", "", None),
        ("small-1-mini-2024-08-06", "", None),
        ("small-12", "", None),
        ("small-1-2024-13-45", "", None),
        ("small-1-9999", "", None),
        ("small-1-v2", "", None),
        ("small-1-4", "", None),
        ("small", "", None),
        ("Small-1", "", None),
        ("small-1-2024-08-06 ", "", None),
        ("small-1-20240806\n", "", None),
        ("small-1-２０２４-08-06", "", None),  # noqa: RUF001  digits of another script are no date
        ("", "", None),
    ],
)
def test_a_model_costs_what_its_name_says(
    model: str, provider: str, expected: float | None
) -> None:
    """A date or revision does not change a price, any other ending is another model."""
    price = TABLE.lookup(model, provider)
    assert (price and price.input_usd_per_mtok) == expected
    cost = TABLE.cost_nano(model, provider, 1_000_000, 0)
    assert cost == (None if expected is None else expected * 10**9)


def test_a_table_is_a_mapping_that_stays_as_it_is() -> None:
    """A table keeps what it was given, whatever becomes of that; and it knows prices."""
    given = {"a": Price(1, 2)}
    table = PriceTable(given)
    given["b"] = Price(1, 2)
    assert dict(table) == {"a": Price(1, 2)}
    assert len(table) == 1
    assert table["a"] == Price(1, 2)
    assert "b" not in table
    assert isinstance(table, Prices)
    assert "Price(" in repr(table)
