"""What a window of 8 k tokens loses of long sessions: `python -m bench.context [ROW ...]`.

Recorded conversations of two airline and retail agents, read in place, are stitched into sessions
of 17,000 to 27,000 tokens, one system message each. A prompt is all that is before an answer of
the assistant, as each of the rows would send it; the recorded answer follows, whatever was sent.
The window has 8,192 tokens, of which 1,024 are kept free; the logs hold no tool schemas.
Nothing leaves the machine, and every figure is the same on each run.

- orphans: prompts with a result whose call is not before it, or a call without its result.
- over budget: prompts of more than 7,168 tokens, counted exactly (`counting.py`).
- stated lost: identifiers that the user stated, which the last prompt does not have; then the
  share that a handle in that prompt would fetch back, which counts as lost all the same; then
  the share over all prompts.
- used missing: values given to a call that somebody had said before, which the prompt before
  that call does not have; and, of all, those that a handle would fetch back.
- prefix: tokens of a prompt whose messages, byte by byte, begin the next one, so that they can be
  read from a provider's cache. Whole pairs: prompts that begin the next one as a whole.

How identifiers are found, by rules that Undercroft does not use, says `scored.py`; how the others
were set up, `peers.py`. They are not needed (`pip install langchain litellm`): what is not
installed is left out. LiteLLM takes some minutes. ROW is a part of a row's name; of several, a row
must have all.

Exit codes: 0 our targets met, 1 one missed, 2 no traces, or no exact counter.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bench.context import sessions
from bench.context.counting import NotInstalledError, tokens_of
from bench.context.ours import IDEAL, LIMIT_TOKENS, NONE, OURS, RESERVED_TOKENS
from bench.context.peers import Peer, installed
from bench.context.scored import Score, Wanted, score, wanted_of
from bench.context.table import COLUMNS, Target, head, row

# Without a model an identifier may be lost here and there; with one that copies all, none.
LOST_MAX = {IDEAL: 0.0, NONE: 1.0}
PREFIX_MIN = 95.0
BUDGET_TOKENS = LIMIT_TOKENS - RESERVED_TOKENS

Scored = tuple[sessions.Session, Wanted]


def targets(name: str) -> tuple[Target, ...]:
    """Return what a row of ours is held to."""
    if name not in LOST_MAX:
        return ()
    return (
        Target("orphans", 0),
        Target("over", 0),
        Target("lost", LOST_MAX[name]),
        Target("whole", PREFIX_MIN, least=True),
    )


def measured(peer: Peer, each: list[Scored]) -> Score:
    """Return what a way to make prompts loses over all sessions."""
    whole = Score()
    for session, wanted in each:
        prompts = peer.make(session, wanted, BUDGET_TOKENS)
        whole.add(score(session, wanted, prompts, BUDGET_TOKENS))
    return whole


def asked() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.context",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "row", nargs="*", metavar="ROW", help="only rows whose name has all of these"
    )
    parser.add_argument("--traces", type=Path, default=sessions.TRACES, metavar="FOLDER")
    parser.add_argument("--domain", choices=list(sessions.DOMAINS), help="only this one")
    parser.add_argument("--misses", action="store_true", help="list what is missing, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there")
    return parser.parse_args()


def main() -> int:
    """Print the table."""
    given = asked()
    domains = [given.domain] if given.domain else list(sessions.DOMAINS)
    try:
        taken = sessions.load(tokens_of, given.traces, domains)
    except FileNotFoundError:
        print(f"skipped: there are no traces in {given.traces}; say where with --traces FOLDER")
        return 2
    except NotInstalledError as error:
        print(f"skipped: {error}")
        return 2
    peers, missing = installed()
    rows = [p for p in (*OURS, *peers) if all(part in p.name for part in given.row)]
    if not rows:
        print(f"no row has {' and '.join(map(repr, given.row))} in its name")
        return 2
    each = [(session, wanted_of(session)) for session in taken.sessions]
    print(described(taken, each))
    print(head())
    counts: dict[str, Score] = {}
    good = True
    for peer in rows:
        began = time.perf_counter()
        counts[peer.name] = figures = measured(peer, each)
        missed = [t.column for t in targets(peer.name) if not t.met(figures)]
        good &= not missed
        print(row(peer.name, figures, missed if targets(peer.name) else None), flush=True)
        print(f"  {peer.name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
        if given.misses:
            print("\n".join(f"  {miss}" for miss in figures.misses))
    print(
        f"targets: orphans 0, over 0, stated lost 0 with the ideal summariser and at most "
        f"{LOST_MAX[NONE]:g} % without, whole pairs at least {PREFIX_MIN:g} %"
    )
    if missing:
        print(f"not installed, and so left out: {', '.join(missing)}")
    if given.json:
        record = {
            name: {**asdict(one), "figures": {key: c.of(one) for key, c in COLUMNS.items()}}
            for name, one in counts.items()
        }
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(not good)


def described(taken: sessions.Taken, each: list[Scored]) -> str:
    """Return what was read, in a few lines."""
    sizes = [session.tokens for session, _ in each]
    messages = sum(len(session.messages) for session, _ in each)
    answers = sum(len(session.answers) for session, _ in each)
    stated = sum(len(wanted.stated) for _, wanted in each)
    used = sum(len(values) for _, wanted in each for values in wanted.used.values())
    return (
        f"{len(each)} sessions of {min(sizes):,} to {max(sizes):,} tokens: {messages:,} messages, "
        f"{answers:,} prompts, {stated} stated identifiers, {used:,} used values\n"
        f"left out: {taken.coded} conversations of agents that execute code instead of calling "
        f"tools, {taken.crashed} that crashed, {taken.rest} left over\n"
        f"window {LIMIT_TOKENS:,}, kept free {RESERVED_TOKENS:,}, no tools\n"
    )


if __name__ == "__main__":
    sys.exit(main())
