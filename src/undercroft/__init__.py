"""Undercroft: the layer under AI workflows that makes them reliable.

import undercroft as uc
"""

from undercroft import testing
from undercroft.app import Runtime
from undercroft.engine.claims import Claims
from undercroft.engine.handler import handler
from undercroft.engine.tool import tool
from undercroft.engine.turn import Turn
from undercroft.engine.workflow import Workflow
from undercroft.errors import (
    BusyError,
    DeclarationError,
    GraphError,
    ReplayError,
    StoreError,
    UndercroftError,
    UnknownOutcomeError,
)
from undercroft.layers.breakers.policy import RetryPolicy as Retry
from undercroft.layers.conflicts.ownership import Ownership
from undercroft.layers.conflicts.resource import Resource
from undercroft.layers.parallelism.policy import Limits
from undercroft.model.inject import Approval, Deadline, Fence, IdempotencyKey, TurnInfo
from undercroft.model.message import Answer, Message, ModelRequest, Usage
from undercroft.model.outcome import Outcome
from undercroft.model.step import Call, Refusal, Result
from undercroft.model.trace import Trace

__all__ = [
    "Answer",
    "Approval",
    "BusyError",
    "Call",
    "Claims",
    "Deadline",
    "DeclarationError",
    "Fence",
    "GraphError",
    "IdempotencyKey",
    "Limits",
    "Message",
    "ModelRequest",
    "Outcome",
    "Ownership",
    "Refusal",
    "ReplayError",
    "Resource",
    "Result",
    "Retry",
    "Runtime",
    "StoreError",
    "Trace",
    "Turn",
    "TurnInfo",
    "UndercroftError",
    "UnknownOutcomeError",
    "Usage",
    "Workflow",
    "handler",
    "testing",
    "tool",
]
