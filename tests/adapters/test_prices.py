"""Prices that a library keeps: known without a network, and unknown without an error."""

from __future__ import annotations

import socket
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from undercroft.adapters.prices import GenaiPrices
from undercroft.errors import DeclarationError
from undercroft.layers.breakers.prices import Prices

EXPECTED = 7_500_000  # of 1,000 tokens in and 500 out at $2.50 and $10.00 a million


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, the error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(DeclarationError, match=r"genai-prices.*undercroft\[prices\]"):
        GenaiPrices()


def test_another_library_of_that_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that has not what is called fails where it is asked for, not in a turn."""
    monkeypatch.setitem(sys.modules, "genai_prices", ModuleType("genai_prices"))
    with pytest.raises(DeclarationError, match=r"calc_price.*undercroft\[prices\]"):
        GenaiPrices()


@pytest.mark.parametrize(
    "calc",
    [
        lambda *_a, **_k: 1 / 0,
        lambda *_a, **_k: None,
        lambda *_a, **_k: SimpleNamespace(total_price="a lot"),
    ],
)
def test_whatever_goes_wrong_the_price_is_not_known(
    monkeypatch: pytest.MonkeyPatch, calc: Any
) -> None:
    """A library that raises or answers nonsense is one that does not know the price."""
    library: Any = ModuleType("genai_prices")
    library.calc_price, library.Usage = calc, SimpleNamespace
    monkeypatch.setitem(sys.modules, "genai_prices", library)
    assert GenaiPrices().cost_nano("m", "p", 1, 1) is None


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> GenaiPrices:
    """Return the library's prices, with no network to fetch any."""
    pytest.importorskip("genai_prices")

    def refuse(*_args: object) -> None:
        pytest.fail("a price was fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return GenaiPrices()


def test_a_known_model_has_a_price(prices: GenaiPrices) -> None:
    """A model of a known provider costs what it says, with or without its date or provider."""
    assert isinstance(prices, Prices)
    assert prices.cost_nano("gpt-4o", "openai", 1_000, 500) == EXPECTED
    assert prices.cost_nano("gpt-4o-2024-08-06", "openai", 1_000, 500) == EXPECTED
    assert prices.cost_nano("gpt-4o", "", 1_000, 500) == EXPECTED
    assert prices.cost_nano("gpt-4o", "openai", 0, 0) == 0


def test_a_provider_may_be_given_for_all(prices: GenaiPrices) -> None:
    """The provider of the whole adapter counts where a call names none."""
    assert GenaiPrices("nobody-we-know").cost_nano("gpt-4o", "", 1_000, 500) is None
    assert GenaiPrices("openai").cost_nano("gpt-4o", "", 1_000, 500) == EXPECTED
    del prices


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("acme-9", "openai"),
        ("acme-9", ""),
        ("", ""),
        ("gpt-4o", "nobody-we-know"),
        ("whisper-1", "openai"),
        ("x" * 10_000, "openai"),
        ("\x00\ud800", "openai"),
        (None, None),
        (7, "openai"),
        (["gpt-4o"], "openai"),
    ],
    ids=repr,
)
def test_an_unknown_model_has_none(prices: GenaiPrices, model: Any, provider: Any) -> None:
    """What is unknown, no name at all, or not sold by tokens has no price, and nothing raises."""
    assert prices.cost_nano(model, provider, 1_000, 500) is None


@pytest.mark.parametrize("tokens", [None, "many", 1e400, float("nan")])
def test_senseless_tokens_have_no_price(prices: GenaiPrices, tokens: Any) -> None:
    """What is no number of tokens has no cost; less than none is none."""
    assert prices.cost_nano("gpt-4o", "openai", tokens, 500) is None
    assert prices.cost_nano("gpt-4o", "openai", -5, 500) == 5_000_000


def test_nothing_runs_in_the_background(prices: GenaiPrices) -> None:
    """Asking for prices leaves no thread behind, so nothing is fetched later either."""
    before = threading.active_count()
    prices.cost_nano("gpt-4o", "openai", 1_000, 500)
    assert threading.active_count() == before
