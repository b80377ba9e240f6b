"""Prices of models as the library `genai-prices` keeps them, in the extra `undercroft[prices]`.

Keeps: nothing is fetched. The library's prices are those it was released with, unless the user
starts its updater.
"""

from __future__ import annotations

import math
from importlib import import_module
from operator import index
from typing import Any

from undercroft.errors import DeclarationError

_NANO_PER_USD = 1_000_000_000


class GenaiPrices:
    """What tokens cost, from the tables of `genai-prices`.

    A price by the time of day or by the size of the prompt is that of the call. What is not sold
    by tokens in and out has no price here.

        uc.Runtime(…, prices=GenaiPrices())

    Args:
        provider: Where a model's provider is not told; None: the library finds it by the model's
            name.

    Raises:
        DeclarationError: The library is not installed, or is not one that we know.
    """

    def __init__(self, provider: str | None = None) -> None:
        try:
            library: Any = import_module("genai_prices")
            self._calc, self._usage = library.calc_price, library.Usage
        except ImportError as error:
            raise DeclarationError(
                "GenaiPrices",
                f"the library genai-prices cannot be imported ({error})",
                "Install the extra: pip install 'undercroft[prices]'.",
            ) from error
        except AttributeError as error:
            raise DeclarationError(
                "GenaiPrices",
                f"the installed genai-prices is not one that Undercroft knows ({error})",
                "Install the one that goes with it: pip install -U 'undercroft[prices]'.",
            ) from error
        self._provider = provider

    def cost_nano(
        self, model: str, provider: str, input_tokens: int, output_tokens: int
    ) -> int | None:
        """Return what so many tokens cost, in billionths of a dollar; None: nobody knows."""
        try:
            sent, answered = max(0, index(input_tokens)), max(0, index(output_tokens))
            usage = self._usage(input_tokens=sent, output_tokens=answered)
            price = self._calc(usage, model, provider_id=provider or self._provider or None)
            if price.model_price.input_mtok is None and price.model_price.output_mtok is None:
                return None  # sold by the second, the page or the picture
            cost: int = math.ceil(price.total_price * _NANO_PER_USD)
            return max(0, cost)
        except Exception:  # noqa: BLE001  whatever goes wrong there, the price is not known
            return None
