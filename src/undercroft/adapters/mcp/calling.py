"""One call of a tool of a server, by a session of the SDK.

Keeps: the SDK's own time limit is off, so that there is one, ours; whatever a server answers that
is no answer is an error that says so, of which the breakers know what it means. What a server
asks back (elicitation, sampling, roots) goes to the callbacks of the session, and is declined where
it has none.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mcp import ClientSession, MCPError, types
from mcp.client.session import ClientRequestContext
from pydantic import TypeAdapter, ValidationError

from undercroft.errors import DomainError, ServiceError

# Beyond any limit of ours: where two limits run, one ends a call of which the other knows nothing.
FAR_S = 30 * 86_400.0
ROUNDS_MAX = 10
_AGAIN_S = 0.05
_ASKED_CHARS = 500
# What the SDK says of answers that it cannot read, with the code of a request that was refused: but
# the request was taken.
_UNREADABLE = ("Unexpected content type", "server answered a request with 202")

_Answer: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)


async def call_tool(
    session: ClientSession, service: str, name: str, arguments: dict[str, Any]
) -> types.CallToolResult:
    """Return what a tool answered.

    Raises:
        DomainError: The server wants to know something that nobody answers here.
        ServiceError: What it answered cannot be read, or is not what its own schema says.
        MCPError: It answered with an error of the protocol, or not at all.
    """
    responses: types.InputResponses | None = None
    state: str | None = None
    for _ in range(ROUNDS_MAX):
        answer = await _ask(session, service, name, arguments, responses, state)
        if isinstance(answer, types.CallToolResult):
            await _check(session, service, name, answer)
            return answer
        state, responses = answer.request_state, None
        if answer.input_requests:
            responses = await _respond(session, name, answer.input_requests)
        else:
            await asyncio.sleep(_AGAIN_S)
    raise DomainError(f"{name} asked back {ROUNDS_MAX} times, and was not called once more.")


async def _ask(  # noqa: PLR0913, PLR0917  a part of `call_tool`, called in one place
    session: ClientSession,
    service: str,
    name: str,
    arguments: dict[str, Any],
    responses: types.InputResponses | None,
    state: str | None,
) -> types.CallToolResult | types.InputRequiredResult:
    params = types.CallToolRequestParams(
        name=name, arguments=arguments, input_responses=responses, request_state=state
    )
    request = types.CallToolRequest(params=params)
    try:
        return await session.send_request(request, _Answer, request_read_timeout_seconds=FAR_S)
    except ValidationError as error:
        problem = f"its answer to {name} is none: {error.errors()[0]['msg']}"
        raise ServiceError(service, problem, code="data_loss") from error
    except MCPError as error:
        if error.code == types.INVALID_REQUEST and error.message.startswith(_UNREADABLE):
            raise ServiceError(service, error.message[:_ASKED_CHARS], code="data_loss") from error
        raise


async def _check(
    session: ClientSession, service: str, name: str, answer: types.CallToolResult
) -> None:
    """Hold an answer against the schema that the server listed for it."""
    if answer.is_error:
        return
    try:
        await session.validate_tool_result(name, answer)
    except RuntimeError as error:
        raise ServiceError(service, f"{error}"[:_ASKED_CHARS], code="data_loss") from error


async def _respond(
    session: ClientSession, name: str, requests: dict[str, types.InputRequest]
) -> types.InputResponses:
    """Return the answers of the session's callbacks to what a server asks back."""
    responses: types.InputResponses = {}
    for key, request in requests.items():
        context = ClientRequestContext(session=session, request_id=key)
        response = await session.dispatch_input_request(context, request)
        if isinstance(response, types.ErrorData):
            asked = getattr(request.params, "message", "") if request.params else ""
            raise DomainError(
                f"{name} was not done: its server wants something first ({request.method}: "
                f"{asked!r:.{_ASKED_CHARS}}), and nobody answers that here: {response.message}"
            )
        responses[key] = response
    return responses
