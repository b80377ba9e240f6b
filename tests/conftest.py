"""What all tests share: properties that try the same examples on every machine."""

from __future__ import annotations

from hypothesis import settings

# No deadline: how long an example takes says more of the machine than of the rule.
settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")
