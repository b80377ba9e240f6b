"""What a user's tests need: a scripted model, time that costs nothing, faults, and a guard."""

from undercroft.testing.access import UndeclaredAccessError, access_guard
from undercroft.testing.clock import VirtualLoop, run_virtual
from undercroft.testing.faults import CrashingStore, FaultyStore
from undercroft.testing.model import ScriptedModel, ScriptEndedError

__all__ = [
    "CrashingStore",
    "FaultyStore",
    "ScriptEndedError",
    "ScriptedModel",
    "UndeclaredAccessError",
    "VirtualLoop",
    "access_guard",
    "run_virtual",
]
