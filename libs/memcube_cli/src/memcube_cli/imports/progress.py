"""How far a file was loaded: a convenience that saves a second run from sending again, never what makes it correct."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from memcube_common.embedded.private import private_folder, write_private


class Progress(BaseModel):
    """Everything before `offset` was sent and answered.

    `size` and `changed_ns` are of the file as it was then. `witnesses`: for each project, the receipt of something
    loaded there; if one of them is gone, so may be the rest. `refused`: lines the server refused, as number, field
    and reason.
    """

    model_config = ConfigDict(frozen=True)

    size: int
    changed_ns: int
    offset: int = 0
    loaded: int = 0
    witnesses: dict[str, str] = {}
    refused: list[tuple[int, str, str]] = []


class ProgressFile:
    """The progress of one file into one house, beside the stack's data."""

    def __init__(self, home: Path, file: Path, *, into: str) -> None:
        """`into` names the gateway and the default project: another one is another import."""
        name = hashlib.sha256(f"{file.resolve()}\0{into}".encode()).hexdigest()[:16]
        self._path = home / "imports" / f"{name}.json"
        stat = file.stat()
        self.fresh = Progress(size=stat.st_size, changed_ns=stat.st_mtime_ns)

    def read(self) -> Progress:
        """The progress kept, or a fresh one where there is none or the file was changed since."""
        try:
            kept = Progress.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return self.fresh
        is_same = (kept.size, kept.changed_ns) == (self.fresh.size, self.fresh.changed_ns)
        return kept if is_same else self.fresh

    def write(self, progress: Progress) -> None:
        """Replace what was kept."""
        private_folder(self._path.parent)
        write_private(self._path, progress.model_dump_json() + "\n")
