"""The two consoles, and how things are set on them: one look for all commands.

Keeps: only `Text` is printed and never markup, so nothing in it is taken for a command.
Colours go where a terminal is, and not where NO_COLOR is set; without them the words and
signs say the same.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from undercroft.cli.safe import safe
from undercroft.errors import UndercroftError
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus

# Narrower than this the columns of a page would not stand beside each other.
WIDTH_MIN, WIDTH_MAX = 60, 120

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
    "cut off": ("✗", "magenta"),
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
    console.width = min(console.width, WIDTH_MAX)
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


def set_command(words: Sequence[str], width: int, indent: str) -> Text:
    """Set a command line in `width` columns so that it can be copied as it stands.

    Options that do not fit go to the next line, after a backslash. `indent` may end in a
    prompt.
    """
    pieces: list[str] = []
    for raw in words:
        quoted = shlex.quote(safe(raw))
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
            text.append(f" \\\n{' ' * len(indent)}    ")
            column = len(indent) + 3
        elif place:
            text.append(" ")
        text.append(piece)
        column += 1 + cell_len(piece)
    return text


def print_command(console: Console, words: Sequence[str], indent: str = "  ") -> None:
    """Print a command line that may be copied."""
    put(console, [set_command(words, console.width, indent)])


def say(console: Console, text: str | Text, indent: int = 0, style: str = "") -> None:
    """Print text, wrapped, each line `indent` columns from the margin and without padding."""
    body = Text(text, style=style) if isinstance(text, str) else text
    lines = []
    for line in body.wrap(console, max(console.width - indent, 20)):
        line.rstrip()
        lines.append(Text.assemble(" " * indent, line) if line else line)
    put(console, lines)


def put(console: Console, lines: Sequence[Text]) -> None:
    """Print lines as they are."""
    if lines and console.color_system is None:
        # Ten thousand lines in no time: there is nothing that would have to be styled.
        console.file.write("\n".join(line.plain for line in lines) + "\n")
    elif lines:
        console.print(Text("\n").join(lines), soft_wrap=True)


def columns(*cells: tuple[Text, int]) -> Text:
    """Return cells beside each other, each in its width; the last one is not padded."""
    line = Text(no_wrap=True)
    for place, (cell, width) in enumerate(cells):
        cell.truncate(width, overflow="ellipsis")
        line.append_text(cell)
        if place < len(cells) - 1:
            line.append(" " * (width - cell.cell_len))
    line.rstrip()
    return line


def complain(error: BaseException) -> None:
    """Say on stderr what went wrong, in one message."""
    said = str(error) if isinstance(error, UndercroftError) else repr(error)
    text = safe(said, lines=True)
    console = err()
    say(console, Text.assemble(("undercroft: ", "bold red"), text))
    noted = error if hasattr(error, "__notes__") else error.__cause__
    for note in getattr(noted, "__notes__", ()):
        put(console, [Text(safe(note, lines=True))])
