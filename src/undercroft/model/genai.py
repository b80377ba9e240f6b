"""Names by which spans and metrics say what a model or a tool did: others' conventions and ours.

Keeps: whoever writes a name and whoever reads it takes it from here.

Written are the names of the OpenTelemetry semantic conventions for generative AI as of 1.41.0, the
last release that has them in the main repository. Read are also those before and after it: each
tuple below has the newest name first. OpenInference's are those of its conventions for Python,
0.1. `undercroft.*` is our own, for what neither has.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"

# ---------------------------------------------------------------- written, by the conventions

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  an attribute
ERROR_TYPE: Final = "error.type"

CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
INVOKE_AGENT: Final = "invoke_agent"
INVOKE_WORKFLOW: Final = "invoke_workflow"

OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105  a metric
# Bounds that the conventions ask for.
DURATION_BOUNDS: Final = tuple(0.01 * 2**power for power in range(14))
TOKEN_BOUNDS: Final = tuple(4**power for power in range(14))

EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"

# ---------------------------------------------------------------- written, our own

TURN_ID: Final = "undercroft.turn.id"
TURN_KIND: Final = "undercroft.turn.kind"
TURN_STATUS: Final = "undercroft.turn.status"
TURN_MISSING: Final = "undercroft.turn.missing"
TURN_INPUT: Final = "undercroft.turn.input"
TURN_DELIVERED: Final = "undercroft.turn.delivered"
TURN_LIVES: Final = "undercroft.turn.lives"
DELIVERY: Final = "undercroft.delivery.status"
STEP_ID: Final = "undercroft.step.id"
STEP_NUMBER: Final = "undercroft.step.number"
STEP_KIND: Final = "undercroft.step.kind"
STEP_STATUS: Final = "undercroft.step.status"
# `read`, `write` or `neither`; and the claims, each as `mode key`.
ACCESS: Final = "undercroft.effect.access"
CLAIMS: Final = "undercroft.effect.claims"
BRANCH: Final = "undercroft.branch"
ATTEMPT: Final = "undercroft.attempt"
SERVICE: Final = "undercroft.service"
BREAKER: Final = "undercroft.breaker.state"
QUEUE_WAIT: Final = "undercroft.queue.wait"
COST: Final = "undercroft.cost.usd"
ERROR: Final = "undercroft.error.message"
ERROR_CLASS: Final = "undercroft.error.class"
RULE: Final = "undercroft.refusal.rule"
REFUSAL: Final = "undercroft.refusal.message"
# Whether `gen_ai.input.messages` has only what the prompt before it of the same branch had not.
PROMPT_DELTA: Final = "undercroft.prompt.delta"
PROMPT_TOKENS: Final = "undercroft.prompt.tokens"
WINDOW: Final = "undercroft.context.window"
CUT: Final = "undercroft.cut"

# Of events on spans: what a person decided; what a guard did, as `layer.reason`, and in words.
DECISION: Final = "undercroft.decision"
ACT: Final = "undercroft.guard"
ACT_RULE: Final = "undercroft.guard.rule"
ACT_DETAIL: Final = "undercroft.guard.detail"

STEPS: Final = "undercroft.steps"
TURNS: Final = "undercroft.turns"
RETRIES: Final = "undercroft.retries"
REFUSALS: Final = "undercroft.refusals"
STEP_WAIT: Final = "undercroft.step.wait"
UNTOLD: Final = "undercroft.exporter.dropped"

# ---------------------------------------------------------------- read, newest first

CHATS: Final = frozenset({CHAT, "generate_content", "text_completion", "completion"})
AGENTS: Final = frozenset({INVOKE_AGENT, INVOKE_WORKFLOW, "create_agent", "plan"})

READ_PROVIDER: Final = (PROVIDER, "gen_ai.system", "llm.provider", "llm.system")
READ_MODEL: Final = (
    "gen_ai.response.model",
    REQUEST_MODEL,
    "llm.response.model_name",
    "llm.model_name",
    "llm.request.model_name",
    "llm.request.model",
    "ai.model.id",
)
READ_INPUT_TOKENS: Final = (
    INPUT_TOKENS,
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
    "ai.usage.promptTokens",
    PROMPT_TOKENS,
)
READ_OUTPUT_TOKENS: Final = (
    OUTPUT_TOKENS,
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
    "ai.usage.completionTokens",
)
READ_WINDOW: Final = (WINDOW, "gen_ai.request.context_window", "llm.context_window")
READ_STOP: Final = (
    FINISH_REASONS,
    "llm.response.finish_reason",
    "llm.finish_reason",
    "ai.response.finishReason",
)
READ_AGENT: Final = (AGENT_NAME, WORKFLOW_NAME, "agent.name", "graph.node.name", "agent_name")
READ_ACTOR: Final = (AGENT_NAME, "agent.name")
READ_TOOL: Final = (TOOL_NAME, "tool.name", "mcp.tool.name", "ai.toolCall.name")
READ_CALL_ID: Final = (TOOL_CALL_ID, "tool_call.id", "tool.id", "ai.toolCall.id")
# What any kind of span was given, and gave back.
READ_INPUTS: Final = (
    "input.value",
    "traceloop.entity.input",
    "langfuse.observation.input",
    "mlflow.spanInputs",
    "gen_ai.prompt",
)
READ_OUTPUTS: Final = (
    "output.value",
    "traceloop.entity.output",
    "langfuse.observation.output",
    "mlflow.spanOutputs",
    "gen_ai.completion",
)
READ_ARGUMENTS: Final = (
    TOOL_ARGUMENTS,
    "gen_ai.tool.arguments",
    "tool_call.function.arguments",
    "ai.toolCall.args",
    "tool_arguments",
    "gcp.vertex.agent.tool_call_args",
    *READ_INPUTS,
)
# By the conventions a tool's parameters are their schema; some write the arguments there.
READ_PARAMETERS: Final = "tool.parameters"
READ_RESULT: Final = (
    TOOL_RESULT,
    "gen_ai.tool.result",
    "ai.toolCall.result",
    "tool_response",
    "gcp.vertex.agent.tool_response",
    *READ_OUTPUTS,
)
READ_CONVERSATION: Final = (CONVERSATION, "session.id", "gen_ai.thread.id", "thread.id")
READ_SCHEMAS: Final = (TOOL_DEFINITIONS, "gen_ai.request.tools")

SPAN_KIND: Final = "openinference.span.kind"
LOOP_KIND: Final = "traceloop.span.kind"
READ_KIND: Final = (
    SPAN_KIND,
    LOOP_KIND,
    "langsmith.span.kind",
    "langfuse.observation.type",
    "mlflow.spanType",
)
LOOP_NAME: Final = "traceloop.entity.name"
REQUEST_TYPE: Final = "llm.request.type"
# Beginnings of names that are flattened lists of messages, sent and answered.
SENT: Final = ("llm.input_messages", "gen_ai.prompt")
ANSWERED: Final = ("llm.output_messages", "gen_ai.completion")
OFFERED: Final = ("llm.tools", "llm.request.functions")

# Events on spans that are one message each, up to 1.36; and the two before them.
MESSAGE_EVENTS: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
CHOICE_EVENT: Final = "gen_ai.choice"
PROMPT_EVENT: Final = "gen_ai.content.prompt"
COMPLETION_EVENT: Final = "gen_ai.content.completion"
DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
