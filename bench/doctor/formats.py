"""Part `formats`: the same run written out in several formats, and what is said of each."""

from __future__ import annotations

import random
from collections import Counter

from bench.doctor.diagnosed import diagnose
from bench.doctor.faulted import FAULTS, forms_of
from bench.doctor.faults import CHAT
from bench.doctor.stories import healthy
from bench.doctor.tables import share, table, title
from bench.doctor.writers import WRITERS

RUNS = 60


def report() -> tuple[str, bool]:
    """Return how often formats agree, on what all of them can show."""
    agreed: Counter[tuple[str, str]] = Counter()
    asked: Counter[tuple[str, str]] = Counter()
    shared = [fault for fault in FAULTS if set(fault.formats) >= set(CHAT)]
    for n, run in enumerate(healthy(RUNS, seed=2)):
        fault = shared[n % len(shared)]
        broken = fault.inject(run, random.Random(n)) or run  # noqa: S311  nothing is secret here
        forms = [form for form in forms_of(broken) if form in fault.formats]
        said = {form: diagnose(WRITERS[form](broken), form) for form in forms}
        names = list(said)
        for a, one in enumerate(names):
            for two in names[a + 1 :]:
                unseen = {
                    layer.layer
                    for form in (one, two)
                    for layer in said[form].diagnosis.layers
                    if layer.verdict == "not_observable"
                }
                asked[one, two] += 1
                agreed[one, two] += said[one].missing - unseen == said[two].missing - unseen
    rows = [
        (f"{one} and {two}", n, agreed[one, two], share(agreed[one, two], n))
        for (one, two), n in asked.items()
    ]
    heads = ("formats", "runs", "same layers missing", "share")
    return "\n".join([title("One run in several formats"), table(heads, rows)]), True
