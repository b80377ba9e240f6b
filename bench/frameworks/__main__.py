"""Make the table: `python -m bench.frameworks --env langchain=PYTHON --env pydantic-ai=PYTHON ...`.

Each framework needs an environment of its own; `PYTHON` is that environment's interpreter. Exit
codes: 0 all ran, 2 something could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.frameworks.table import rendered

ROOT = Path(__file__).resolve().parents[2]
RUN_S = 1_800
MODULES = {
    "langchain": "bench.frameworks.langchain_programs",
    "pydantic-ai": "bench.frameworks.pydantic_ai_programs",
    "openai-agents": "bench.frameworks.openai_agents_programs",
}


class RunError(Exception):
    """A framework's programs could not be run; what it said is on stderr."""


def report(framework: str, python: str, programs: list[str], *, guarded: bool) -> dict[str, Any]:
    """Return what a framework's programs measured.

    Raises:
        RunError: They did not come to an end.
    """
    asked = [part for program in programs for part in ("--program", program)]
    command = [python, "-m", MODULES[framework], "--json", *asked]
    if guarded:
        command.append("--guarded")
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    done = subprocess.run(  # noqa: S603  our own module, by an interpreter that the user named
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, timeout=RUN_S, check=False
    )
    if done.returncode:
        raise RunError(f"{framework}: exit code {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main() -> int:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--env", action="append", default=[], metavar="FRAMEWORK=PYTHON")
    parser.add_argument("--program", action="append", default=[], help="only these")
    parser.add_argument("--after", action="store_true", help="with Undercroft, too")
    parser.add_argument("--json", action="store_true", help="the reports instead of the table")
    asked = parser.parse_args()
    chosen = dict(pair.split("=", 1) for pair in asked.env)
    if not chosen or not set(chosen) <= set(MODULES):
        parser.error(f"name environments of {', '.join(MODULES)}: --env FRAMEWORK=PYTHON")
    try:
        before, after = (
            [report(name, chosen[name], asked.program, guarded=guarded) for name in chosen]
            if asked.after or not guarded
            else []
            for guarded in (False, True)
        )
    except (RunError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 2
    if asked.json:
        print(json.dumps({"before": before, "after": after}, indent=2))
    else:
        print(rendered(before, after), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
