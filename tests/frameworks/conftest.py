"""Keeps the frameworks' tests on this machine, and out of runs that did not ask for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ACCOUNTS = ("ANTHROPIC_", "LANGCHAIN_", "LANGGRAPH_", "LANGSMITH_", "LOGFIRE_", "MCP_", "OPENAI_")

# Here, and not in a fixture: the frameworks read some of these when they are imported. A key or an
# address of the developer's own must never be what a test talks to.
for _name in [name for name in os.environ if name.startswith(ACCOUNTS)]:
    del os.environ[_name]
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"  # It would send traces to the vendor.


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Pass over a framework's folder, unless an argument names it or something in it.

    Its tests import what is missing in every environment but its own.
    """
    if collection_path.parent != HERE or not collection_path.is_dir():
        return None
    asked = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    return True if not any(path.is_relative_to(collection_path) for path in asked) else None
