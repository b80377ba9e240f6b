"""Does the quality score tell a failing context first? `python -m bench.context.quality`.

Sessions of 17,000 tokens and more are stitched from recorded conversations, in several orders.
First they are gone through with 0, 5, 10, 20 and 40 % of their facts dropped at random
(`dropping.py` says how, and what of it is simulated); then with windows of ours (`windowed.py`).
Weights and thresholds were fitted on airline; retail has other tasks, tools and agents, and none
of its runs was used.

- score: median at the end of a session, and over all prompts; below it, of its parts at the end
  the lowest tenth, the median and the highest tenth. Repeats, re-asks and contradictions are those
  of the recorded agents, who lacked nothing: they show how seldom these parts accuse a window that
  is well, and nothing else. So their weights are not fitted.
- alarmed: sessions with an alarm; and alarms in 1,000 prompts.
- first: of the sessions with misses, those whose alarm came before the first one, and how many
  messages before. warned: of all misses, those with an alarm at least two messages before.
- AUC: how often the score before a prompt with a miss in messages 2 to 20 from it is lower than
  the score before one without; ties count half. The score knows nothing of those messages, nor of
  the answer to the prompt itself. "Before any miss" takes only prompts before the first one of
  their session, so that no miss foretells the next. "At one rate" compares prompts of sessions
  that lost the same share: which of the lost facts will be wanted is chance there, and a score
  can tell little. "Until it is said again" is the other way of dropping.
- a fall in the middle: nothing is dropped in the first half of a session, a share of all facts
  from then on. In how many sessions an alarm follows, how many prompts and misses later.

Exit codes: 0 targets met, 1 one missed, 2 no traces.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.context.dropping import Heard, Played, play, shuffled
from bench.context.sessions import DOMAINS, TRACES
from bench.context.windowed import POLICIES, windowed
from undercroft.layers.context.quality.alarm import TARGET, THRESHOLD
from undercroft.layers.context.quality.score import LIVENESS, PARTS, SUPPORT, WEIGHTS, Score

RATES = (0.0, 0.05, 0.1, 0.2, 0.4)
AHEAD_MIN, AHEAD_MAX = 2, 20
NEVER = 1 << 40
# The window that is never compacted.
WELL = "with room"
NAME_WIDTH, WIDTH = 26, 18
AUC_MIN = 0.75
ALARMED_MAX = 0.05
# Of the weight that support and liveness have together.
SHARES = (0.0, 0.1, 0.2, 0.36, 0.5, 0.7, 1.0)

Measure = Callable[[Score], float]
Samples = list[tuple[Score, bool]]


def by_value(score: Score) -> float:
    """Return a score that is known."""
    return float(-1 if score.value is None else score.value)


def by_part(part: str) -> Measure:
    """Return what takes one part for the score; what was not observed is perfect."""
    return lambda score: _or_perfect(score, part)


def by_share(share: float) -> Measure:
    """Return what takes the mean of support, with a share of the weight, and liveness."""

    def measure(score: Score) -> float:
        logs = [
            math.log(max(0.01, _or_perfect(score, PARTS[part]))) for part in (SUPPORT, LIVENESS)
        ]
        return logs[0] * share + logs[1] * (1 - share)

    return measure


def _or_perfect(score: Score, part: str) -> float:
    value = score.parts[part]
    return 1.0 if value is None else value


def samples(
    runs: Iterable[Played], ahead_max: int = AHEAD_MAX, *, unmissed: bool = False
) -> Samples:
    """Return each known score, and whether a miss is ahead.

    Args:
        runs: Sessions that were gone through.
        ahead_max: How many messages ahead a miss counts.
        unmissed: Only scores before any miss.
    """
    found = []
    for run in runs:
        for at, score in run.scores:
            if score.value is None or (unmissed and run.misses and run.misses[0] < at):
                continue
            ahead = any(AHEAD_MIN <= miss - at <= ahead_max for miss in run.misses)
            found.append((score, ahead))
    return found


def auc(found: Samples, measure: Measure = by_value) -> float:
    """Return how often a score with a miss ahead is lower than one without; ties count half."""
    ranked = sorted((measure(score), ahead) for score, ahead in found)
    missed = sum(ahead for _, ahead in ranked)
    rest = len(ranked) - missed
    if not missed or not rest:
        return math.nan
    pairs = 0.0
    above = rest
    for _, group in itertools.groupby(ranked, key=lambda one: one[0]):
        tied = [ahead for _, ahead in group]
        here, clear = sum(tied), len(tied) - sum(tied)
        above -= clear
        pairs += here * (above + clear / 2)
    return pairs / (missed * rest)


# ------------------------------------------------------------------ the tables


def show(name: str, values: Iterable[object]) -> None:
    """Print a row."""
    print(f"{name:<{NAME_WIDTH}}" + "".join(f"{value!s:>{WIDTH}}" for value in values))


def median(values: Iterable[float], digits: int = 0) -> str:
    """Return a median, or a dash where there are no values."""
    found = list(values)
    return f"{statistics.median(found):.{digits}f}" if found else "-"


def share(part: float, whole: float) -> str:
    """Return a share in percent, or a dash where there is nothing to share."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def spread(values: Iterable[float | None]) -> str:
    """Return the tenth, the median and the ninetieth of a hundred values."""
    found = sorted(value for value in values if value is not None)
    if not found:
        return "-"
    last = len(found) - 1
    return "/".join(f"{found[round(last * at)]:.2f}".lstrip("0") for at in (0.1, 0.5, 0.9))


def show_rates(by_rate: dict[float, list[Played]]) -> list[float]:
    """Print what each rate does to the score; return the medians over all prompts."""
    all_runs = list(by_rate.values())
    known = [[s for run in runs for _, s in run.scores if s.value is not None] for runs in all_runs]
    last = [[run.scores[-1][1] for run in runs] for runs in all_runs]
    show("facts dropped", (f"{100 * rate:.0f} %" for rate in by_rate))
    show("score at the end", (median(map(by_value, scores)) for scores in last))
    exact = [statistics.median(map(by_value, scores)) for scores in known]
    show("score of all prompts", (f"{value:.0f}" for value in exact))
    for part in PARTS:
        show(f"  {part}", (spread(score.parts[part] for score in scores) for scores in last))
    show_alarms(all_runs, [len(scores) for scores in known])
    show("AUC at one rate", (f"{auc(samples(runs)):.2f}" for runs in all_runs))
    return exact


def show_alarms(all_runs: Sequence[Sequence[Played]], prompts: Sequence[int]) -> None:
    """Print misses and alarms, of sessions with so many prompts of a known score."""
    show("misses a session", (f"{_mean(len(run.misses) for run in runs):.1f}" for runs in all_runs))
    show("alarmed", (share(sum(bool(r.alarms) for r in runs), len(runs)) for runs in all_runs))
    counts = [sum(len(run.alarms) for run in runs) for runs in all_runs]
    rates = [1000 * n / max(1, of) for n, of in zip(counts, prompts, strict=True)]
    show("  alarms in 1,000 prompts", (f"{rate:.1f}" for rate in rates))
    missing = [[run for run in runs if run.misses] for runs in all_runs]
    early = [[r for r in runs if r.alarms and r.alarms[0] < r.misses[0]] for runs in missing]
    show("  first", (share(len(e), len(m)) for e, m in zip(early, missing, strict=True)))
    show("    messages ahead", (median(r.misses[0] - r.alarms[0] for r in e) for e in early))
    show("  warned", map(_warned, all_runs))


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _warned(runs: Sequence[Played]) -> str:
    misses = [(run, miss) for run in runs for miss in run.misses]
    told = sum(any(miss - at >= AHEAD_MIN for at in run.alarms) for run, miss in misses)
    return share(told, len(misses))


def show_auc(runs: Sequence[Played], by_order: Sequence[Sequence[Played]]) -> float:
    """Print how well the score, and what it is made of, tells a miss ahead; return it."""
    found = samples(runs)
    overall = auc(found)
    each = [auc(samples(some)) for some in by_order]
    print(f"AUC: {overall:.3f} ({min(each):.3f} to {max(each):.3f} by order)", end="; ")
    print(
        f"{len(found)} prompts, {share(sum(ahead for _, ahead in found), len(found))} with a miss"
    )
    rows = [
        ("to the end of the session", auc(samples(runs, NEVER))),
        ("before any miss", auc(samples(runs, unmissed=True))),
        ("before any miss, to the end", auc(samples(runs, NEVER, unmissed=True))),
        *((f"{part} alone", auc(found, by_part(part))) for part in PARTS),
        *((f"support has {part:.0%} of the two", auc(found, by_share(part))) for part in SHARES),
    ]
    for row, value in rows:
        print(f"  {row:<30}{value:.3f}")
    return overall


def show_fall(heard: Sequence[Heard]) -> None:
    """Print how soon an alarm follows a fall in the middle of a session."""
    show("a fall in the middle", (f"{100 * rate:.0f} %" for rate in RATES[1:]))
    follows, after, before = [], [], []
    for rate in RATES[1:]:
        delays, misses, alarmed = [], [], 0
        for one in heard:
            middle = len(one.session.messages) // 2
            run = play(one, rate, 0, since=middle)
            alarm = next((at for at in run.alarms if at >= middle), None)
            end = NEVER if alarm is None else alarm
            alarmed += alarm is not None
            misses.append(sum(miss < end for miss in run.misses))
            if alarm is not None:
                delays.append(sum(middle <= at < alarm for at, _ in run.scores))
        follows.append(share(alarmed, len(heard)))
        after.append(median(delays))
        before.append(f"{_mean(misses):.1f}")
    show("  an alarm follows", follows)
    show("  prompts after it", after)
    show("  misses before it", before)


def show_windows(heard: Sequence[Heard]) -> tuple[bool, float]:
    """Print what windows do to the score; return whether `WELL` is not accused, and the AUC."""
    by_policy = {
        name: [windowed(one, policy) for one in heard] for name, policy in POLICIES.items()
    }
    print(f"\n{len(heard)} sessions in windows of ours")
    show("window", by_policy)
    known = [
        [by_value(s) for run in runs for _, s in run.scores if s.value is not None]
        for runs in by_policy.values()
    ]
    show("score of all prompts", map(median, known))
    for part in PARTS:
        lasts = ([run.scores[-1][1] for run in runs] for runs in by_policy.values())
        show(f"  {part}", (spread(score.parts[part] for score in last) for last in lasts))
    show_alarms(list(by_policy.values()), [len(scores) for scores in known])
    runs = [run for some in by_policy.values() for run in some]
    overall = auc(samples(runs))
    print(f"AUC: {overall:.3f}; before any miss {auc(samples(runs, unmissed=True)):.3f}")
    well = by_policy[WELL]
    return sum(bool(run.alarms) for run in well) <= ALARMED_MAX * len(well), overall


def measure(domain: str, shuffles: int, traces: Path) -> bool:
    """Measure one domain; return whether it met its targets."""
    orders = shuffled(domain, shuffles, traces)
    heard = [one for order in orders for one in order]
    print(f"\n{domain}: {len(heard)} sessions, in {len(orders)} orders of the same conversations")
    by_rate = {rate: [play(one, rate, 0) for one in heard] for rate in RATES}
    medians = show_rates(by_rate)
    show_fall(heard)
    runs = [run for some in by_rate.values() for run in some]
    starts = [0, *itertools.accumulate(map(len, orders))]
    by_order = [
        [run for some in by_rate.values() for run in some[start:end]]
        for start, end in itertools.pairwise(starts)
    ]
    overall = show_auc(runs, by_order)
    again = [play(one, rate, 0, again=True) for rate in RATES for one in heard]
    print(f"  {'until it is said again':<30}{auc(samples(again)):.3f}")
    well, in_windows = show_windows(orders[0])
    alarmed = sum(bool(run.alarms) for run in by_rate[0.0]) / len(heard)
    met = {
        "the median score falls with each rate": all(a > b for a, b in itertools.pairwise(medians)),
        f"AUC of at least {AUC_MIN}, facts dropped": overall >= AUC_MIN,
        f"AUC of at least {AUC_MIN}, in windows": in_windows >= AUC_MIN,
        f"at most {ALARMED_MAX:.0%} alarmed where nothing is dropped": alarmed <= ALARMED_MAX,
        f"at most {ALARMED_MAX:.0%} alarmed in a window with room": well,
    }
    for target, is_met in met.items():
        print(f"{'met' if is_met else 'MISSED'}: {target}")
    return all(met.values())


def main() -> int:
    """Measure all domains."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--traces", type=Path, default=TRACES, help="folder of the recorded runs")
    parser.add_argument("--orders", type=int, default=8, help="in which they are stitched")
    asked = parser.parse_args()
    if not asked.traces.is_dir():
        print(f"There are no traces at {asked.traces}.", file=sys.stderr)
        return 2
    weights = ", ".join(f"{n} {w:g}" for n, w in zip(PARTS, WEIGHTS, strict=True))
    print(f"weights: {weights}; alarm below {TARGET:g}, at {THRESHOLD:g} points together")
    met = [measure(domain, max(1, asked.orders), asked.traces) for domain in DOMAINS]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
