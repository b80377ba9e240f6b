"""What a user's tests need: a scripted model, time that costs nothing, faults, and a guard."""

from undercroft.testing.access import UndeclaredAccessError, access_guard
from undercroft.testing.clock import VirtualLoop, run_virtual
from undercroft.testing.faults import CrashingStore, FaultyStore
from undercroft.testing.model import ScriptedModel, ScriptEndedError
from undercroft.testing.replays import DivergedError, check_replay

__all__ = [
    "CrashingStore",
    "DivergedError",
    "FaultyStore",
    "ScriptEndedError",
    "ScriptedModel",
    "UndeclaredAccessError",
    "VirtualLoop",
    "access_guard",
    "check_replay",
    "run_virtual",
]
