"""Part `faults`: one fault put into each healthy run, and which layer the doctor names for it.

A run that fires for a layer whose fault it does not hold counts against that layer, be it an
untouched one or one with another layer's fault in it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.doctor import faults_order, faults_seen, faults_state
from bench.doctor.diagnosed import Said, diagnose, known
from bench.doctor.faults import Fault
from bench.doctor.runs import TRACES, Run, recorded
from bench.doctor.stories import healthy
from bench.doctor.tables import met, share, table, title
from bench.doctor.writers import WRITERS
from undercroft.doctor.report import LAYERS

FAULTS: tuple[Fault, ...] = (*faults_order.FAULTS, *faults_state.FAULTS, *faults_seen.FAULTS)
GENERATED, KEPT, EACH = 300, 120, 24
PRECISION_MIN, RECALL_MIN = 0.95, 0.90


@dataclass(frozen=True, slots=True)
class Shown:
    """One run that was shown to the doctor: what was done to it, and what the doctor said."""

    run: Run
    form: str
    fault: Fault | None
    said: Said

    @property
    def layer(self) -> str:
        """The layer whose protection was taken away, or `none`."""
        return self.fault.layer if self.fault else "none"


@dataclass(slots=True)
class Tally:
    """What was counted for one layer."""

    held: int = 0
    found: int = 0
    wrong: int = 0
    named: int = 0
    named_wrong: int = 0
    wrong_by: Counter[str] = field(default_factory=Counter)

    @property
    def recall(self) -> float:
        """Of the runs with the fault, the share in which the layer is missing."""
        return self.found / self.held if self.held else 0.0

    @property
    def precision(self) -> float:
        """Of the runs in which the layer is missing, the share that holds its fault."""
        fired = self.found + self.wrong
        return self.found / fired if fired else 0.0


def sources(seed: int = 1, *, kept: bool = False) -> list[Run]:
    """Return the healthy runs: generated ones, and recorded ones where they are at hand.

    Args:
        seed: Of the generated ones.
        kept: Whether to take only those of domains that rules were not first made with.
    """
    if kept:
        return healthy(KEPT, seed, kept=True)
    runs = healthy(GENERATED, seed)
    for folder in ("tau_airline", "tau_retail"):
        if (TRACES / folder).is_dir():
            runs += recorded(folder, passed=True)
    return runs


def forms_of(run: Run) -> tuple[str, ...]:
    """Return in which formats a run can be written out; those without ids in one only."""
    named = all(call.id for _, _, call in run.calls())
    forms = tuple(WRITERS) if named and not run.source.startswith("tau_") else ("openai",)
    return tuple(form for form in forms if known(form))


def shown(seed: int = 1, each: int = EACH, *, kept: bool = False) -> Iterator[Shown]:
    """Yield untouched runs in every format, then each fault in up to so many runs of a kind."""
    runs = sources(seed, kept=kept)
    for run in runs:
        for form in forms_of(run):
            yield Shown(run, form, None, diagnose(WRITERS[form](run), form))
    for fault in FAULTS:
        for group in ("generated", "tau"):
            kind = [run for run in runs if run.source.startswith("tau_") == (group == "tau")]
            yield from _injected(fault, kind, seed, each)


def _injected(fault: Fault, runs: list[Run], seed: int, each: int) -> Iterator[Shown]:
    chance = random.Random(f"{seed}/{fault.name}")  # noqa: S311  nothing is secret here
    order = list(runs)
    chance.shuffle(order)
    done = 0
    for run in order:
        if done == each:
            return
        forms = [form for form in forms_of(run) if form in fault.formats]
        broken = fault.inject(run, chance) if forms else None
        if broken is None:
            continue
        done += 1
        form = forms[done % len(forms)]
        yield Shown(broken, form, fault, diagnose(WRITERS[form](broken), form))


def tallies(each: list[Shown]) -> dict[str, Tally]:
    """Count by layer."""
    made = {layer: Tally() for layer in LAYERS}
    for one in each:
        for layer, tally in made.items():
            if one.layer == layer:
                tally.held += 1
                tally.found += layer in one.said.missing
                tally.named += one.said.cause == layer
            else:
                tally.named_wrong += one.said.cause == layer
                if layer in one.said.missing:
                    tally.wrong += 1
                    tally.wrong_by[one.fault.name if one.fault else "untouched"] += 1
    return made


def report(each: list[Shown], name: str = "Injected faults") -> tuple[str, bool]:
    """Return the tables, and whether the targets are met."""
    made = tallies(each)
    controls = [one for one in each if one.fault is None]
    quiet = sum(not one.said.missing for one in controls)
    rows = [
        (
            layer,
            t.held,
            share(t.found, t.held),
            share(t.found, t.found + t.wrong),
            share(t.named, t.held),
            share(t.named, t.named + t.named_wrong),
            "met" if t.precision >= PRECISION_MIN and t.recall >= RECALL_MIN else "MISSED",
        )
        for layer, t in made.items()
    ]
    heads = ("layer", "n", "recall", "precision", "cause recall", "cause prec.", "")
    lines = [title(name), table(heads, rows)]
    lines.append(
        f"targets: precision {PRECISION_MIN}, recall {RECALL_MIN}; untouched runs without a "
        f"finding: {quiet} of {len(controls)} ({met(quiet / max(1, len(controls)), 0.95)})"
    )
    by_fault: dict[str, list[Shown]] = {}
    for one in each:
        if one.fault:
            by_fault.setdefault(one.fault.name, []).append(one)
    rows2 = []
    for fault, those in by_fault.items():
        layer = those[0].layer
        others = Counter(other for one in those for other in one.said.missing - {layer})
        rows2.append(
            (
                fault,
                layer,
                len(those),
                share(sum(layer in one.said.missing for one in those), len(those)),
                share(sum(one.said.cause == layer for one in those), len(those)),
                " ".join(f"{k[:4]}:{v}" for k, v in others.most_common(2)),
            )
        )
    heads2 = ("fault", "layer", "n", "recall", "cause", "others")
    lines += ["", table(heads2, rows2)]
    good = all(t.precision >= PRECISION_MIN and t.recall >= RECALL_MIN for t in made.values())
    return "\n".join(lines), good
