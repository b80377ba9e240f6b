"""What a window costs in time: `python -m bench.context.speed [--rounds 7] [--quick]`.

A made-up conversation of 2,200 messages and some 200,000 tokens, from a seed that differs with each
round, so that no count is remembered from the round before. Each round measures each row once;
the table shows the median of the rounds with the least and the most, in time of the processor.

- floor: a regular expression finds every word of the messages, and nothing is done with them. It
  says how fast the machine is just now.
- append: `add`, for 1,000 tokens of messages, while nothing has to leave the window; by the
  estimate, then by the exact vocabulary where that is installed.
- assemble: `prompt()` before each of the last 400 answers, with all that was said in it; median and
  99th percentile. Then the same as OpenAI's messages, which is what one would send.
- load: `Context.load` of what `dump` wrote, until the first prompt is there; then the prompt after
  that, which takes in whatever the first could do without.
- load of a journal: from `run` of another turn of a session, in a runtime that knows nothing but
  the journal of 500 turns, until the model is asked.
- compaction: the `prompt()` of a window that has become too full, which had a prompt before each
  answer so far.
- score: the quality, of the turn and of the session, after an answer.
- a session in 32 k: all messages added and a prompt before each answer, compactions included, for
  1,000 tokens.
- 1 M / 200 k: the same figure of 11,000 messages, to that of 2,200 in the same round.

Exit codes: 0 all targets met, 1 one missed. A quick run's figures are not for quoting.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import undercroft as uc
from bench.context.counting import VOCABULARY, NotInstalledError, tokens_of
from bench.context.generated import conversation
from bench.context.journaled import cold_ms
from undercroft.adapters import tokens

MESSAGES, LONG = 2_200, 11_000
ASSEMBLED = 800
WIDE = uc.ContextPolicy(limit_tokens=100_000_000)
NARROW = uc.ContextPolicy(limit_tokens=32_000)
NAME_WIDTH = 44
WORD = re.compile(r"\w+")
# Rows, in order: what they are in, and what they may be at most.
ROWS: dict[str, tuple[str, float | None]] = {
    "floor: every word found once, 1 k tokens": ("ms", None),
    "append, 1 k tokens": ("ms", 0.3),
    "append, 1 k tokens, exact": ("ms", None),
    "assemble, median": ("ms", 2.0),
    "assemble, 99th percentile": ("ms", 5.0),
    "assemble for OpenAI, median": ("ms", None),
    "load": ("ms", 60.0),
    "load, the prompt after the first": ("ms", None),
    "load of a journal": ("ms", 60.0),
    "compaction without a model": ("ms", 50.0),
    "score": ("ms", 1.0),
    "a session in 32 k, 1 k tokens": ("ms", None),
    "append, 1 M / 200 k": ("x", 1.3),
    "load, a token, 1 M / 200 k": ("x", 1.3),
    "compaction, a token, 1 M / 200 k": ("x", 1.3),
    "a session in 32 k, a token, 1 M / 200 k": ("x", 1.3),
}

Chat = dict[str, Any]
Table = dict[str, list[float]]


def taken_ms(work: Callable[[], object], *, collect: bool = True) -> float:
    """Return what one call takes, of the processor."""
    if collect:
        gc.collect()
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


def words_found(messages: Sequence[Chat]) -> int:
    """Find the words of every message; return how many there are."""
    return sum(len(WORD.findall(one["content"] or "")) for one in messages)


def told(context: uc.Context, messages: Sequence[Chat]) -> uc.Context:
    """Tell a window what was said."""
    for one in messages:
        context.add(one)
    return context


def gone_through(messages: Sequence[Chat]) -> uc.Context:
    """Go through a session as an agent would: a prompt before each answer."""
    context = uc.Context(NARROW)
    for one in messages:
        if one["role"] == "assistant":
            context.prompt()
        context.add(one)
    return context


def assembled(messages: Sequence[Chat]) -> tuple[list[float], list[float]]:
    """Return what each of the last prompts took: by itself, and as OpenAI's messages."""
    context = told(uc.Context(WIDE), messages[:-ASSEMBLED])
    context.prompt()
    plain, shaped = [], []
    for one in messages[-ASSEMBLED:]:
        if one["role"] == "assistant":
            plain.append(taken_ms(context.prompt, collect=False))
            shaped.append(taken_ms(context.openai, collect=False))
        context.add(one)
    return plain, shaped


def scored(messages: Sequence[Chat]) -> list[float]:
    """Return what it took to ask for the quality after each of the last messages."""
    context = told(uc.Context(WIDE), messages[:-ASSEMBLED])
    context.prompt()
    took = []
    for one in messages[-ASSEMBLED:]:
        if one["role"] == "assistant":
            context.prompt()
        context.add(one)
        took.append(taken_ms(lambda: (context.turn_quality, context.quality), collect=False))
    return took


def compaction_ms(messages: Sequence[Chat]) -> float:
    """Return what the prompt takes that has to make room, nearly at the end of a conversation."""
    wide = told(uc.Context(WIDE), messages)
    wide.prompt()
    limit = int(wide.report().tokens / WIDE.high_share * 0.99)
    context = uc.Context(uc.ContextPolicy(limit_tokens=limit, reserved_tokens=0))
    for one in messages:
        if one["role"] == "assistant":
            if context.pressure:
                return taken_ms(context.prompt)
            context.prompt()
        context.add(one)
    raise AssertionError("nothing had to be compacted")


def loading_ms(messages: Sequence[Chat]) -> tuple[float, float]:
    """Return what the first prompt of a window takes that was written down, and its next."""
    context = told(uc.Context(WIDE), messages)
    context.prompt()
    data = context.dump()
    again = uc.Context(WIDE)
    first = taken_ms(lambda: again.load(data).prompt())
    again.add({"role": "user", "content": "Order #A1001, please."})
    return first, taken_ms(again.prompt)


def per_token(messages: Sequence[Chat]) -> Table:
    """Return the figures that may not grow with the length of a conversation, for 1 k tokens."""
    thousands = tokens_of(messages) / 1000
    return {
        "append": [taken_ms(lambda: told(uc.Context(WIDE), messages)) / thousands],
        "load": [loading_ms(messages)[0] / thousands],
        "compaction": [compaction_ms(messages) / thousands],
        "a session in 32 k": [taken_ms(lambda: gone_through(messages)) / thousands],
    }


def measure(seed: int, table: Table, *, long: bool) -> None:
    """Add one round to the table."""

    def put(row: str, value: float) -> None:
        table.setdefault(row, []).append(value)

    messages = conversation(MESSAGES, seed)
    thousands = tokens_of(messages) / 1000
    short = per_token(messages)
    floor = taken_ms(lambda: words_found(messages))
    put("floor: every word found once, 1 k tokens", floor / thousands)
    put("append, 1 k tokens", short["append"][0])
    first, second = loading_ms(messages)
    put("load", first)
    put("load, the prompt after the first", second)
    with tempfile.TemporaryDirectory() as folder:
        put("load of a journal", cold_ms(messages, Path(folder)))
    put("compaction without a model", short["compaction"][0] * thousands)
    put("a session in 32 k, 1 k tokens", short["a session in 32 k"][0])
    exact = uc.Context(WIDE, counter=tokens.counter(VOCABULARY))
    put("append, 1 k tokens, exact", taken_ms(lambda: told(exact, messages)) / thousands)
    plain, shaped = assembled(messages)
    put("assemble, median", statistics.median(plain))
    put("assemble, 99th percentile", statistics.quantiles(plain, n=100)[98])
    put("assemble for OpenAI, median", statistics.median(shaped))
    put("score", statistics.median(scored(messages)))
    if long:
        much = per_token(conversation(LONG, seed + 2000))
        put("append, 1 M / 200 k", much["append"][0] / short["append"][0])
        for row in ("load", "compaction", "a session in 32 k"):
            put(f"{row}, a token, 1 M / 200 k", much[row][0] / short[row][0])


def shown(row: str, values: Sequence[float]) -> tuple[str, bool]:
    """Lay out a row; return it and whether its target is met."""
    unit, most = ROWS[row]
    middle = statistics.median(values)
    spread = f"{min(values):.3f} - {max(values):.3f}"
    met = most is None or middle <= most
    verdict = "" if most is None else f"<= {most:g} {'met' if met else 'MISSED'}"
    return f"{row:<{NAME_WIDTH}}{middle:>9.3f} {spread:>20} {unit:<3} {verdict}".rstrip(), met


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.context.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7, help="how many (default: 7)")
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing of 1 M tokens")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        size = tokens_of(conversation(MESSAGES, 1))
    except NotInstalledError as error:
        print(f"skipped: {error}")
        return 2
    print(f"{MESSAGES:,} messages, {size:,} tokens; {LONG:,} messages for 1 M\n")
    print(f"{'':<{NAME_WIDTH}}{'median':>9} {'min - max':>20}     target")
    table: Table = {}
    for nth in range(2 if given.quick else given.rounds):
        measure(nth + 1, table, long=not given.quick)
        print(f"  round {nth + 1} done", file=sys.stderr, flush=True)
    good = True
    for row in ROWS:
        if row in table:
            line, met = shown(row, table[row])
            good &= met
            print(line)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
