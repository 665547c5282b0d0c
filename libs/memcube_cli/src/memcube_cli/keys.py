"""Keys of further projects of this checkout's stack, in `.memcube/keys.json` (0600)."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from memcube_common.embedded.private import private_folder, write_private


class Keys(BaseModel):
    """Project slug → secret."""

    model_config = ConfigDict(frozen=True)

    keys: dict[str, str] = {}


class KeyRing:
    """The stack's own key lies in stack.json, which its supervisor writes; these lie beside it, written by commands."""

    def __init__(self, home: Path) -> None:
        self._path = home / "keys.json"

    def read(self, project: str) -> str | None:
        """The key kept for `project`, if any."""
        return self._all().get(project)

    def keep(self, project: str, key: str) -> None:
        """Keep `key` for `project` in place of an older one."""
        private_folder(self._path.parent)
        write_private(self._path, Keys(keys={**self._all(), project: key}).model_dump_json(indent=2) + "\n")

    def _all(self) -> dict[str, str]:
        try:
            return Keys.model_validate_json(self._path.read_bytes()).keys
        except (OSError, ValidationError):
            return {}
