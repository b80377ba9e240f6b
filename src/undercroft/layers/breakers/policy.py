"""How often a call may be tried, and how long it may take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from undercroft.errors import SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a failed call is tried again.

    Only errors of class transient and overloaded are; a write whose outcome is unknown is
    never blindly tried again.

    Attributes:
        attempts: All of them, the first included; 1 to 100.
        wait_s: Upper bound of the first wait, doubled for each further one; above 0.
        wait_max_s: Upper bound of any wait; at least `wait_s`, and finite.
    """

    attempts: int = 3
    wait_s: float = 0.2
    wait_max_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100:  # noqa: PLR2004
            raise SettingError("attempts", self.attempts, "1 to 100")
        if not self.wait_s > 0:  # written so that NaN fails too
            raise SettingError("wait_s", self.wait_s, "above 0")
        if not self.wait_s <= self.wait_max_s < math.inf:
            raise SettingError("wait_max_s", self.wait_max_s, "at least wait_s, and finite")


ONCE = Retry(attempts=1)


def checked_timeout(timeout_s: float | None, name: str = "timeout_s") -> float | None:
    """Return `timeout_s`.

    Raises:
        SettingError: It is not above 0.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise SettingError(name, timeout_s, "above 0, or None")
    return timeout_s
