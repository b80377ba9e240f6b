"""What a page of `docs/frameworks` shows is what happens, in the environment of its framework."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import types
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "frameworks"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(name: str) -> str:
    """Run the Python of a page from top to bottom, `await` included; return the text it promises.

    Args:
        name: Of the page, without its ending.
    """
    path = PAGES / f"{name}.md"
    text = path.read_text(encoding="utf-8")
    lines: list[str] = []
    for match in _BLOCK.finditer(text):
        if match[1] == "python":
            # At their lines of the page, so that an error names them.
            lines += [""] * (text.count("\n", 0, match.start(2)) - len(lines))
            lines += match[2].splitlines()
    assert lines, f"{path.name} shows no Python"
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile("\n".join(lines), str(path), "exec", flags=flags, dont_inherit=True)
    made = types.FunctionType(code, {"__name__": "snippet"})()
    if inspect.iscoroutine(made):
        asyncio.run(made)
    return "".join(body for language, body in _BLOCK.findall(text) if language == "text").strip()
