"""Files and folders that only their owner may read: secrets, configurations, data."""

import os
import secrets
from pathlib import Path


def private_folder(path: Path, *, mode: int = 0o700) -> Path:
    """Make the folder if it is absent and return it; parents and existing folders keep their modes."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode, exist_ok=True)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file by `text` atomically and durably, readable by its owner only (0600)."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def kept_secret(path: Path) -> str:
    """Return the secret kept in the file, making a random one (192 bits, URL-safe) the first time."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text(encoding="utf-8")
