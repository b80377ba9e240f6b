"""A line on stderr while traces are read, where somebody is watching and it takes long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from undercroft.cli.console import err
from undercroft.cli.progress import FIRST_S

T = TypeVar("T")


class Watch:
    """The line: from the first half second on, until something is printed beside it."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._spinner = Spinner("dots", style="blue")
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._count = 0

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watched = False
        self.hide()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items, and count them on the line."""
        for item in items:
            self._count += 1
            with self._lock:
                if self._live is not None:
                    self._spinner.update(text=self._text())
            yield item

    def printing(self) -> None:
        """Say that results are printed on stdout now: on one terminal, they show how it goes."""
        if self._watched and sys.stdout.isatty():
            self._watched = False
            self.hide()

    def hide(self) -> None:
        """Take the line away, since something is to be printed where it stands."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._live is not None:
                self._live.stop()
            self._live = None
        self._arm()

    def _arm(self) -> None:
        if self._watched:
            self._timer = threading.Timer(FIRST_S, self._show)
            self._timer.daemon = True
            self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if self._watched and self._live is None:
                self._spinner.update(text=self._text())
                # Not redirected: results go to stdout as they are, wherever that leads.
                self._live = Live(
                    self._spinner,
                    console=err(),
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()

    def _text(self) -> Text:
        said = f"{self._count:,} read" if self._count else "reading"
        return Text(said, style="dim")
