"""What the engine says where a call may not be made: refusals to act on.

Keeps: each says which rule, what it saw, and the move that would mend the plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from undercroft.layers.breakers.loops import Looping
from undercroft.layers.breakers.spend import Short, Unpriced
from undercroft.model.step import Refusal


def is_open(tool: str, service: str, state: str, retry_in_s: float | None) -> Refusal:
    """Return the refusal of a call to a service that keeps failing."""
    again = "" if retry_in_s is None else f"; it is tried again in {retry_in_s:.3g} s"
    why = "was closed off by a person" if state == "forced_open" else "keeps failing"
    return Refusal(
        rule="breakers.open",
        message=f"{tool} was not called: {service} {why}{again}.",
        next="Go on without it, and tell the user what is missing.",
        facts={"service": service, "state": state, "retry_in_s": _rounded(retry_in_s)},
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def overloaded(tool: str, service: str, waited_s: float, pause_s: float) -> Refusal:
    """Return the refusal of a call to a service that asked to be left alone."""
    return Refusal(
        rule="breakers.overloaded",
        message=f"{tool} was not called: {service} has more calls of ours than it takes, and "
        f"{waited_s:.3g} s did not free a place.",
        next="Go on without it, or propose fewer calls at once, later.",
        facts={"service": service, "waited_s": _rounded(waited_s), "pause_s": _rounded(pause_s)},
    )


def over_budget(tool: str, short: Short) -> Refusal:
    """Return the refusal of a call that might spend more than is left."""
    return Refusal(
        rule="breakers.budget",
        message=f"{tool} was not called: {short.problem}.",
        next="Finish with what is there, and tell the user what is missing.",
        facts={
            "budget": short.account,
            "unit": short.unit,
            "asked": short.asked,
            "left": short.left,
            "limit": short.limit,
            "reserved": short.reserved,
            "mend": short.mend,
        },
    )


def unpriced(tool: str, price: Unpriced) -> Refusal:
    """Return the refusal of a call under a budget of money whose price nobody knows."""
    return Refusal(
        rule="breakers.unpriced",
        message=f"{tool} was not called: {price.problem}.",
        next="Finish with what is there, and tell the user what is missing.",
        facts={"budget": price.account, "model": price.model, "mend": price.mend},
    )


def out_of_time(tool: str, left_s: float) -> Refusal:
    """Return the refusal of a call that could not come to its end in time."""
    return Refusal(
        rule="breakers.deadline",
        message=f"{tool} was not called: {max(left_s, 0.0):.3g} s are left, which is too little.",
        next="Finish with what is there, and tell the user what is missing.",
        facts={"left_s": left_s},
    )


def looping(tool: str, found: Looping) -> Refusal:
    """Return the refusal of a call that leads round in circles."""
    return Refusal(
        rule=found.rule,
        message=f"{tool} was not called: {found.problem}.",
        next=found.mend,
        facts=found.facts,
    )


def withdrawn(open_services: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return what a model is told of services whose tools it is not offered.

    Args:
        open_services: By service, the names of its tools.
    """
    if not open_services:
        return (
            "[undercroft] Every tool is on offer again, and what did not answer may be asked anew."
        )
    said = "; ".join(f"{service} ({', '.join(tools)})" for service, tools in open_services)
    return (
        f"[undercroft] Not answering now, and so not on offer: {said}. Go on without, and tell "
        "the user what is missing."
    )
