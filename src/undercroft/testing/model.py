"""A model that proposes what it is told, answer by answer."""

from __future__ import annotations

from collections.abc import Sequence

from undercroft.errors import UndercroftError
from undercroft.model.message import Answer, ModelRequest
from undercroft.model.step import Call

Scripted = str | Answer | Exception | Sequence[Call]


class ScriptEndedError(UndercroftError):
    """A scripted model was asked for more answers than it has."""

    def __init__(self, asked: int, given: int) -> None:
        super().__init__(asked, given)
        self.asked, self.given = asked, given

    def __str__(self) -> str:
        return (
            f"The script has {self.given} answers, and number {self.asked} was asked for. "
            "Add an answer, or end the turn earlier."
        )


class ScriptedModel:
    """A `ModelClient` that reads its answers from a list.

    The answer is chosen by how many answers the line of code was given already, as the prompt
    holds them or the request says, and not by how often the model was asked: so the same
    script serves a turn that is resumed in another process, and many turns at a time.

    Args:
        script: What to say: calls to propose, a text, a whole answer, or an error to raise.

    Attributes:
        requests: Every request so far, oldest first.
    """

    def __init__(self, script: Sequence[Scripted]) -> None:
        self._script = list(script)
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest) -> Answer:
        """Return the next answer of the script.

        Raises:
            ScriptEndedError: There is none.
        """
        self.requests.append(request)
        place = request.place
        if place is None:
            place = sum(message.role == "assistant" for message in request.messages)
        if place >= len(self._script):
            raise ScriptEndedError(place + 1, len(self._script))
        said = self._script[place]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Answer):
            return said
        return Answer(said) if isinstance(said, str) else Answer(calls=tuple(said))
