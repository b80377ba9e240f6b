"""The OpenAI Agents SDK: as declared, not loaded until wanted, and quiet beside Undercroft."""

from __future__ import annotations

from tests.frameworks.environment import assert_undercroft_waits_for, outside
from tests.real.dojo import SUITES, load_suite


def test_what_is_installed_is_what_the_extra_declares() -> None:
    """The tests of an adapter run on a release that its extra admits."""
    assert not outside("openai-agents")


def test_undercroft_waits_for_it() -> None:
    """Undercroft alone loads none of it; it loads beside Undercroft, and nothing warns."""
    assert_undercroft_waits_for(["agents", "openai"])


def test_the_task_suites_load_beside_it() -> None:
    """The real tools of `agentdojo` are here too, for whoever drives them by the framework."""
    assert all(load_suite(name).tasks for name in SUITES)
