"""Undercroft: the layer under AI workflows that makes them reliable.

import undercroft as uc
"""

from undercroft import testing
from undercroft.app import Runtime, guard
from undercroft.engine.claims import Claims
from undercroft.engine.declaring import declare
from undercroft.engine.handler import handler
from undercroft.engine.parts.allowance import Allowance
from undercroft.engine.parts.breaker import Breaker
from undercroft.engine.parts.context import Context
from undercroft.engine.parts.fallback import Fallback
from undercroft.engine.parts.limit import Limit
from undercroft.engine.parts.loop_guard import LoopGuard
from undercroft.engine.parts.retry import Retry
from undercroft.engine.parts.timeout import Timeout
from undercroft.engine.parts.wire import wire_attempt, wire_attempt_sync
from undercroft.engine.tool import tool
from undercroft.engine.turn import Turn
from undercroft.engine.workflow import Workflow
from undercroft.errors import (
    BreakerOpenError,
    BudgetError,
    BusyError,
    CallRefusedError,
    ContextError,
    ContextOverflowError,
    DeclarationError,
    DomainError,
    GraphError,
    LoopError,
    MessageError,
    ModelError,
    RedactedError,
    ReplayError,
    ServiceError,
    StoreError,
    UndercroftError,
    UnknownOutcomeError,
)
from undercroft.layers.breakers.classes import Blame, ErrorRule, ErrorTable
from undercroft.layers.breakers.policy import (
    BreakerPolicy,
    Budget,
    Budgets,
    LimitPolicy,
    LoopPolicy,
    RetryRatio,
)
from undercroft.layers.breakers.prices import Price, PriceTable
from undercroft.layers.breakers.service import Service
from undercroft.layers.breakers.state import BreakerState
from undercroft.layers.conflicts.ownership import Ownership
from undercroft.layers.conflicts.resource import Resource
from undercroft.layers.context.policy import ContextPolicy, ContextRule, ContextShare
from undercroft.layers.observability.policy import Redaction
from undercroft.layers.parallelism.policy import Limits
from undercroft.model.inject import (
    Approval,
    Deadline,
    Fence,
    IdempotencyKey,
    Missing,
    Secret,
    TurnInfo,
)
from undercroft.model.message import Answer, Message, ModelRequest, Usage
from undercroft.model.outcome import Outcome
from undercroft.model.step import Call, ErrorClass, Refusal, Result
from undercroft.model.trace import Trace
from undercroft.replays import Replay, replay

__all__ = [
    "Allowance",
    "Answer",
    "Approval",
    "Blame",
    "Breaker",
    "BreakerOpenError",
    "BreakerPolicy",
    "BreakerState",
    "Budget",
    "BudgetError",
    "Budgets",
    "BusyError",
    "Call",
    "CallRefusedError",
    "Claims",
    "Context",
    "ContextError",
    "ContextOverflowError",
    "ContextPolicy",
    "ContextRule",
    "ContextShare",
    "Deadline",
    "DeclarationError",
    "DomainError",
    "ErrorClass",
    "ErrorRule",
    "ErrorTable",
    "Fallback",
    "Fence",
    "GraphError",
    "IdempotencyKey",
    "Limit",
    "LimitPolicy",
    "Limits",
    "LoopError",
    "LoopGuard",
    "LoopPolicy",
    "Message",
    "MessageError",
    "Missing",
    "ModelError",
    "ModelRequest",
    "Outcome",
    "Ownership",
    "Price",
    "PriceTable",
    "RedactedError",
    "Redaction",
    "Refusal",
    "Replay",
    "ReplayError",
    "Resource",
    "Result",
    "Retry",
    "RetryRatio",
    "Runtime",
    "Secret",
    "Service",
    "ServiceError",
    "StoreError",
    "Timeout",
    "Trace",
    "Turn",
    "TurnInfo",
    "UndercroftError",
    "UnknownOutcomeError",
    "Usage",
    "Workflow",
    "declare",
    "guard",
    "handler",
    "replay",
    "testing",
    "tool",
    "wire_attempt",
    "wire_attempt_sync",
]
