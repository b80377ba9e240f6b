"""The two consoles, and how things are set on them: one look for all commands.

Keeps: only `Text` is printed and never markup, so nothing in it is taken for a command.
Colours go where a terminal is, and not where NO_COLOR is set; without them the words and
signs say the same.
"""

from __future__ import annotations

import shlex
import sys

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from undercroft.cli.safe import safe
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus

WIDTH_MAX = 120

# Sign and colour of every status; the word itself is always printed too.
_LOOKS: dict[str, tuple[str, str]] = {
    StepStatus.OK: ("✓", "green"),
    TurnStatus.DONE: ("✓", "green"),
    TurnStatus.DEGRADED: ("✓", "yellow"),
    StepStatus.FAILED: ("✗", "red"),
    StepStatus.REFUSED: ("⊘", "yellow"),
    StepStatus.WAITING: ("◌", "cyan"),
    StepStatus.SKIPPED: ("-", "dim"),
    StepStatus.IN_DOUBT: ("?", "magenta"),
    StepStatus.RUNNING: ("▸", "blue"),
    TurnStatus.STOPPED: ("■", "yellow"),
    "killed": ("✗", "red"),
}


def out() -> Console:
    """Return the console for results."""
    return _console(stderr=False)


def err() -> Console:
    """Return the console for progress and complaints."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    file = sys.stderr if stderr else sys.stdout
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if console.width > WIDTH_MAX:
        console.width = WIDTH_MAX
    return console


def sign(status: str) -> Text:
    """Return the sign of a status, in its colour."""
    mark, style = _LOOKS.get(status, ("·", ""))
    return Text(mark, style=style)


def colour(status: str) -> str:
    """Return the colour of a status."""
    return _LOOKS.get(status, ("", ""))[1]


def word(status: str) -> str:
    """Return a status as people read it."""
    return safe(str(status)).replace("_", " ")


def set_command(words: list[str], width: int, indent: str) -> Text:
    """Set a command line in `width` columns so that it can be copied as it stands.

    Options that do not fit go to the next line, after a backslash. Capitals are for the
    reader to fill in.
    """
    pieces: list[str] = []
    for raw in words:
        quoted = raw if raw.isupper() else shlex.quote(safe(raw))
        # A value stays with its option.
        if pieces and pieces[-1].startswith("--") and " " not in pieces[-1] and quoted[:1] != "-":
            pieces[-1] += f" {quoted}"
        else:
            pieces.append(quoted)
    text, column = Text(indent, style="bold", no_wrap=True, overflow="ignore"), len(indent)
    for place, piece in enumerate(pieces):
        last = place == len(pieces) - 1
        room = width - (0 if last else 2)
        if place and column + 1 + cell_len(piece) > room:
            text.append(f" \\\n{indent}    ")
            column = len(indent) + 3
        elif place:
            text.append(" ")
        text.append(piece)
        column += 1 + cell_len(piece)
    return text


def print_command(console: Console, words: list[str], indent: str = "  ") -> None:
    """Print a command line that may be copied."""
    console.print(set_command(words, console.width, indent), soft_wrap=True)


def complain(error: BaseException) -> None:
    """Say on stderr what went wrong, in one message."""
    text = safe(str(error) or type(error).__name__, lines=True)
    console = err()
    console.print(Text.assemble(("undercroft: ", "bold red"), text))
    for note in getattr(error, "__notes__", None) or getattr(error.__cause__, "__notes__", ()):
        console.print(Text(safe(note, lines=True)), soft_wrap=True)
