"""A service and a clock, for each test its own."""

from __future__ import annotations

import pytest

from tests.engine.parts.calling import Clock, Service


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def service() -> Service:
    """A service that is well."""
    return Service()
