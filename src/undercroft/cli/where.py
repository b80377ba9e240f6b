"""Where a command finds its journal and its code, and how the next command says the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from undercroft.cli.options import DB_DEFAULT
from undercroft.errors import StoreError


@dataclass(frozen=True, slots=True)
class Where:
    """What was said about the journal, the code and the model.

    Attributes:
        db: Path of the journal.
        targets: As given with --target.
        model: As given with --model.
        secrets: As given with --secrets.
    """

    db: str
    targets: tuple[str, ...] = ()
    model: str | None = None
    secrets: str | None = None

    def again(self, *words: str) -> list[str]:
        """Return a command line that may be copied, for this journal and this code."""
        line = ["undercroft", *words]
        if self.db not in (DB_DEFAULT, os.environ.get("UNDERCROFT_DB")):
            line += ["--db", self.db]
        return line

    def resuming(self, *words: str) -> list[str]:
        """Return a command line that goes on with a turn, and so needs its code too."""
        line = self.again(*words)
        for target in self.targets:
            line += ["--target", target]
        if self.secrets and self.secrets != os.environ.get("UNDERCROFT_SECRETS"):
            line += ["--secrets", self.secrets]
        return [*line, "--model", self.model] if self.model else line

    def must_exist(self) -> None:
        """Check that there is a journal, since opening one that is not there makes it.

        Raises:
            StoreError: There is none.
        """
        if not Path(self.db).exists():
            raise StoreError(self.db, "there is no such file", "Name the journal with --db.")


def needs_naming(target: str) -> bool:
    """Whether a later command in this folder could not import `target` by its recorded name."""
    place = target.rpartition(":")[0]
    if not place.endswith(".py"):
        return False
    folder = Path(place).resolve().parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder != Path.cwd()
