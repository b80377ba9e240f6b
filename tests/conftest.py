"""What all tests share: the same examples on every machine, and processes that can be stopped."""

from __future__ import annotations

import signal

from hypothesis import settings

# No deadline: how long an example takes says more of the machine than of the rule.
settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")

# What is started in the background by a shell ignores Ctrl-C, and so does all that it starts; but
# tests interrupt processes of their own.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
