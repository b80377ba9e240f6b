"""What pytest finds by itself once Undercroft is installed: the fixture `replayed`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from undercroft.testing.replays import check_replay


@pytest.fixture
def replayed() -> Callable[..., object]:
    """Return what replays a recorded turn: `replayed("incident.db", "t-019…", target=assist)`."""
    return check_replay
