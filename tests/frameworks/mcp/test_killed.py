"""A loop that is killed goes on where it was: what a server did it is not asked to do again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

import undercroft as uc
from tests.frameworks.mcp.conftest import PLACES, ROOT, Ledger, WebShop, module
from tests.frameworks.mcp.paying import CALL, SESSION
from undercroft.adapters.mcp import connect
from undercroft.model.step import StepStatus


@pytest.mark.parametrize(
    ("when", "status"), [("before", StepStatus.IN_DOUBT), ("after", StepStatus.OK)]
)
async def test_no_effect_is_repeated(
    web: WebShop, ledger: Ledger, tmp_path: Path, when: str, status: StepStatus
) -> None:
    """Killed before the outcome it is in doubt, after it the record is given again."""
    journal = tmp_path / "journal.db"
    killed = await asyncio.to_thread(
        subprocess.run,
        module("paying", str(journal), web.url, when),
        cwd=ROOT,
        env=os.environ | PLACES,
        check=False,
    )
    assert killed.returncode == -9
    async with connect(web.url, service="shop") as server, uc.Runtime(journal) as rt:
        guest = rt.guest(rt.toolset("payer", await server.tools()), session=SESSION)
        result = await guest.call(CALL)
        await guest.end()
    assert result.status is status
    assert result.value == (None if when == "before" else {"paid": 1})
    assert ledger.lines == ["pay a 1"]


async def test_an_idempotent_call_is_repeated(web: WebShop, ledger: Ledger, tmp_path: Path) -> None:
    """What may be done again is done again, where nobody knows whether it was."""
    journal = tmp_path / "journal.db"
    command = module("paying", str(journal), web.url, "before")
    await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=os.environ | PLACES, check=False)
    async with connect(web.url, service="shop") as server, uc.Runtime(journal) as rt:
        tools = rt.toolset("payer", await server.tools(), {"pay": {"idempotent": True}})
        guest = rt.guest(tools, session=SESSION)
        result = await guest.call(CALL)
        await guest.end()
    assert result.value == {"paid": 1}
    assert ledger.lines == ["pay a 1", "pay a 1"]
