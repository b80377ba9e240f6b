"""What calls spent, in words."""

from __future__ import annotations

from collections.abc import Iterable

from undercroft.cli.safe import took
from undercroft.model.trace import Spent, StepTrace

_SHOWN_USD = 0.0001


def spent_words(spent: Spent) -> str:
    """Return one line: attempts, time, tokens and money, as far as there was any."""
    words = [_counted(spent.attempts, "attempt")]
    if spent.time_s:
        words.append(took(spent.time_s))
    if spent.input_tokens or spent.output_tokens:
        words.append(f"{spent.input_tokens:,} tokens in, {spent.output_tokens:,} out")
    if spent.usd is not None:
        words.append(money(spent.usd))
    return ", ".join(words)


def total_spent(steps: Iterable[StepTrace]) -> Spent | None:
    """Return what all steps spent together; None where nothing is known of any."""
    spent = [step.spent for step in steps if step.spent is not None]
    if not spent:
        return None
    known = [one.usd for one in spent if one.usd is not None]
    return Spent(
        "",
        sum(one.attempts for one in spent),
        sum(one.time_s for one in spent),
        sum(one.input_tokens for one in spent),
        sum(one.output_tokens for one in spent),
        # What has no price, such as a tool of one's own, cost nothing that is known.
        sum(known) if known else None,
    )


def money(usd: float) -> str:
    """Return dollars: cents where it is much, and enough places to tell where it is little."""
    if 0 < usd < _SHOWN_USD:
        return f"<${_SHOWN_USD}"
    return f"${usd:.4f}" if 0 < usd < 1 else f"${usd:,.2f}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
