"""What naming a service costs a step: its breaker, then also a timeout, then also a budget.

    python -m bench.serviced

Keeps: as `bench.claimed`; no step waits for anything, so what is measured is the runtime alone.
"""

from __future__ import annotations

import sys
from typing import Any

import undercroft as uc
from bench import workload
from bench.claimed import compared

WORDS = {
    "none": "no service",
    "service": "a service on every step",
    "timeout": "the same, with a timeout",
    "retry": "the same, and retries",
    "budget": "the same, and a budget",
}
KINDS = tuple(WORDS)
WAITS_S = 30.0


def chain(kind: str) -> uc.Workflow:
    """Return the seven steps with a service, and what else a kind has."""
    level = KINDS.index(kind)
    given: dict[str, Any] = {}
    if level >= KINDS.index("service"):
        given["service"] = "bench"
    if level >= KINDS.index("timeout"):
        given["timeout_s"] = WAITS_S
    if level >= KINDS.index("retry"):
        given["retry"] = uc.Retry(attempts=3)
    if level >= KINDS.index("budget"):
        given["budget"] = uc.Budget(attempts=10)
    flow = uc.Workflow(f"serviced-{kind}")
    flow.resolve(**given)(workload.resolve)
    flow.read(**given)(workload.read)
    flow.gather(**given)(workload.gather)
    flow.prepare(**given)(workload.prepare)
    flow.prepare(**given)(workload.review)
    flow.prepare(**given)(workload.execute)
    flow.confirm(**given)(workload.confirm)
    return flow


def main() -> int:
    """Print the table."""
    compared(chain, WORDS, __doc__ or "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
