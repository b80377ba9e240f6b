"""Every store on every place: what holds for one holds for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.places import MemoryPlace, Place, SqlitePlace


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a place for one journal."""
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path / "journal.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal may be made."""
    return tmp_path / "journal.db"
