"""What a user's tests need: a scripted model, time that costs nothing, and faults on demand."""

from undercroft.testing.clock import VirtualLoop, run_virtual
from undercroft.testing.faults import CrashingStore, FaultyStore
from undercroft.testing.model import ScriptedModel, ScriptEndedError

__all__ = [
    "CrashingStore",
    "FaultyStore",
    "ScriptEndedError",
    "ScriptedModel",
    "VirtualLoop",
    "run_virtual",
]
