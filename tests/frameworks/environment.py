"""What holds of the environment of every framework, for its tests to mean anything.

Keeps: questions about imports are asked in a process that has imported nothing yet.
Leaves to others: which framework; each folder here has a `test_environment` that says it.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
IMPORT_S = 60  # A framework of this size takes seconds on a machine that does other things too.


def outside(*extras: str) -> list[str]:
    """Return what is installed outside the ranges that these extras of Undercroft declare."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [
        Requirement(text) for extra in extras for text in project["optional-dependencies"][extra]
    ]
    return [
        f"{one.name} {version(one.name)} is not {one.specifier}"
        for one in declared
        if not one.specifier.contains(version(one.name), prereleases=True)
    ]


def loaded_by(*modules: str) -> set[str]:
    """Return every module that a fresh process has loaded once it has imported these.

    Raises:
        AssertionError: An import failed, or warned.
    """
    code = "".join(f"import {module}\n" for module in modules) + "import sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=IMPORT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return set(done.stdout.split())


def assert_undercroft_waits_for(frameworks: Iterable[str]) -> None:
    """Assert that no framework is loaded by Undercroft, and that each loads beside it."""
    frameworks = set(frameworks)
    assert not loaded_by("undercroft", "undercroft.cli.main") & frameworks
    assert frameworks <= loaded_by("undercroft", *sorted(frameworks))
