"""Runtimes on every store: what holds for one holds for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import undercroft as uc
from undercroft.ports import ModelClient
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.storage.sqlite import SqliteStore

MakeRuntime = Callable[..., uc.Runtime]


@pytest.fixture(params=["memory", "sqlite"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> MakeRuntime:
    """Return what makes runtimes; all of a test share one journal."""
    journal = MemoryJournal()

    def make(model: ModelClient | None = None, **options: object) -> uc.Runtime:
        store: MemoryStore | SqliteStore = (
            MemoryStore(journal)
            if request.param == "memory"
            else SqliteStore(tmp_path / "journal.db")
        )
        return uc.Runtime(store, model=model, **options)  # type: ignore[arg-type]

    return make
