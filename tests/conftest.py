"""What all tests share: the same examples on every machine, and processes that can be stopped."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

# No deadline: how long an example takes says more of the machine than of the rule.
settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")

# What is started in the background by a shell ignores Ctrl-C, and so does all that it starts; but
# tests interrupt processes of their own.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let tests of several workers run side by side, but one that is marked `alone` by itself.

    The locks belong to the process: they end with it, and what a test forks does not hold them.
    """
    cache = getattr(item.config, "cache", None)
    if cache is None or not hasattr(item.config, "workerinput"):
        return (yield)
    folder = cache.mkdir("side-by-side")
    alone = item.get_closest_marker("alone") is not None
    with (folder / "door").open("a+") as door, (folder / "room").open("a+") as room:
        # Who must be alone keeps the door while the room empties; others would come in for ever.
        fcntl.lockf(door, fcntl.LOCK_EX)
        fcntl.lockf(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.lockf(door, fcntl.LOCK_UN)
        return (yield)
