"""How often the doctor is right: `python -m bench.doctor [--part PART ...] [--write]`.

- faults: healthy runs, recorded and generated, each with one fault put into it,
  beside untouched ones: does the doctor name the layer whose protection was taken away?
- kept: the same in made-up systems that rules were not first made with, in other words.
- real: recorded runs with rewards: findings in failed ones, and in passed ones.
- deviation: the first step that went wrong, as people marked it in other logs.
- abstention: root causes that no runtime layer could have stopped.
- formats: one run written out in several formats.
- speed: seconds and memory of the command on 100 MB.

Nothing leaves the machine, and every figure but those of speed is the same on each run. Recorded
traces are read in place; without them only what is generated is measured. `--write` keeps what was
measured of each rule in `src/undercroft/doctor/measured.py`.

Exit codes: 0 all targets met, 1 one missed, 2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import date

from bench.doctor import abstained, deviated, faulted, formats, precision, real, speed
from bench.doctor.runs import TRACES

PARTS = ("faults", "kept", "real", "deviation", "abstention", "formats", "speed")
_RECORDED = frozenset({"real", "deviation", "abstention"})


def asked() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; repeatable")
    parser.add_argument("--each", type=int, default=faulted.EACH, help="runs of a kind for a fault")
    parser.add_argument("--seed", type=int, default=1, help="where faults are put")
    parser.add_argument("--write", action="store_true", help="keep the precision of each rule")
    parser.add_argument("--day", default=f"on {date.today():%Y-%m-%d}", help="as it is written")  # noqa: DTZ011  the reader's day
    return parser.parse_args()


def main() -> int:
    """Print the tables."""
    given = asked()
    parts = tuple(given.part or PARTS)
    if not TRACES.is_dir():
        parts = tuple(part for part in parts if part not in _RECORDED)
        print(f"there are no recorded traces in {TRACES}: those parts are skipped")
    if not parts:
        return 2
    kept = precision.Kept()
    steps: dict[str, Callable[[], tuple[str, bool]]] = {
        "faults": lambda: faulted.report(kept.injected(faulted.shown(given.seed, given.each))),
        "kept": lambda: faulted.report(
            kept.injected(faulted.shown(given.seed, given.each, kept=True)),
            "Injected faults, in systems that rules were not first made with",
        ),
        "real": lambda: real.report(kept.recorded(real.rated())),
        "deviation": lambda: deviated.report(deviated.marked()),
        "abstention": lambda: abstained.report(abstained.labelled()),
        "formats": formats.report,
        "speed": speed.report,
    }
    good = True
    for part in parts:
        text, met = steps[part]()
        good &= met
        print(text, flush=True)
    if given.write:
        print(f"\nwritten: {precision.write(kept, given.day)}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
