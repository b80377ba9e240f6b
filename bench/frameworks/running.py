"""A framework's programs as a command, in its environment: `python -m bench.frameworks.MODULE`."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import platform
import sys
from importlib.metadata import version
from typing import Any

from bench.frameworks.programs import PROGRAMS, Framework, serve_part


async def run(framework: Framework, programs: list[str], *, guarded: bool) -> dict[str, Any]:
    """Return what the programs measured, with the versions they ran on."""
    return {
        "framework": framework.name,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in framework.packages},
        "guarded": guarded,
        "lines": lines(framework),
        "programs": {name: await PROGRAMS[name](framework, guarded=guarded) for name in programs},
    }


def lines(framework: Framework) -> int:
    """Return how many lines of a framework's module a user adds or changes: those marked so."""
    source = inspect.getsource(sys.modules[framework.answer.__module__])
    return sum(line.endswith("# +undercroft") for line in source.splitlines())


def main(framework: Framework) -> None:
    """Run the programs, or be one of their processes."""
    if sys.argv[1:2] == ["--part"]:
        serve_part(framework, sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=f"The five programs in {framework.name}.")
    parser.add_argument("--program", action="append", choices=sorted(PROGRAMS), help="only these")
    parser.add_argument("--guarded", action="store_true", help="with Undercroft under it")
    parser.add_argument("--json", action="store_true", help="on one line")
    asked = parser.parse_args()
    programs = asked.program or list(PROGRAMS)
    # One loop for all: frameworks keep clients, and those keep their loop.
    told = asyncio.run(run(framework, programs, guarded=asked.guarded))
    print(json.dumps(told, indent=None if asked.json else 2))
