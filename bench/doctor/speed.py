"""Part `speed`: seconds and memory of the command on 100 MB of generated traces, and on a tenth.

Messages are about as long as recorded ones (`bench/context/generated.py`); seconds on the clock
depend on how busy the machine is, those of the processor less so. Memory is that of the largest
process; it is flat where ten times the traces take little more of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.context.generated import conversation
from bench.doctor.tables import met, table, title

MEGABYTES, SECONDS_MAX, GROWTH_MAX = 100, 30.0, 1.5
_DISTINCT, _MESSAGES = 200, 24
_MB = 1_000_000


def written(path: Path, megabytes: float) -> int:
    """Write so many megabytes of runs as JSON lines; return how many runs."""
    lines = [
        json.dumps({"trace_id": f"{n}", "messages": conversation(_MESSAGES, n)})
        for n in range(_DISTINCT)
    ]
    size = runs = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * _MB:
            line = lines[runs % len(lines)].replace('"trace_id": "', f'"trace_id": "{runs}/', 1)
            size += file.write(line + "\n")
            runs += 1
    return runs


def timed(path: Path) -> tuple[float, float, float, int]:
    """Return seconds, those of the processor, peak megabytes and lines printed by the command."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "undercroft", "doctor", "--json", str(path)]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)  # noqa: S603  our own command
        _, _, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        out.seek(0)
        printed = sum(1 for _ in out)
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, printed


def report() -> tuple[str, bool]:
    """Return the table, and whether the targets are met."""
    rows, peaks, took = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in (MEGABYTES / 10, MEGABYTES):
            path = Path(folder) / "traces.jsonl"
            runs = written(path, megabytes)
            took, busy, peak, printed = timed(path)
            peaks.append(peak)
            rows.append(
                (f"{megabytes:g} MB", runs, printed, f"{took:.1f}", f"{busy:.1f}", f"{peak:.0f}")
            )
    growth = peaks[-1] / peaks[0] if peaks[0] else 0.0
    good = took <= SECONDS_MAX and growth <= GROWTH_MAX
    lines = [
        title("Speed"),
        table(("traces", "runs", "printed", "s", "processor s", "peak MB"), rows),
    ]
    lines.append(
        f"targets: {MEGABYTES} MB in <= {SECONDS_MAX:g} s "
        f"({met(took, SECONDS_MAX, least=False)}); memory at most {GROWTH_MAX:g} times that of a "
        f"tenth ({growth:.2f}: {met(growth, GROWTH_MAX, least=False)})"
    )
    return "\n".join(lines), good
