"""The settings of projects in Postgres: read by whoever writes into one, set by who manages it."""

from __future__ import annotations

from memcube_common.contracts.fields import Screening
from memcube_common.db import Statements, Transaction
from memcube_common.projects.domain import ProjectSettings

QUERIES = Statements(__package__)


async def find_settings(tx: Transaction, *, project: str) -> ProjectSettings | None:
    """The settings of `project`; None where it does not exist."""
    row = await tx.fetch_one(QUERIES["read_settings"], project)
    return None if row is None else ProjectSettings(row["screening"], row["near_duplicates"])


async def read_settings(tx: Transaction, *, project: str) -> ProjectSettings:
    """The settings of `project`; the defaults where it does not exist, since nothing can be written into it then."""
    return await find_settings(tx, project=project) or ProjectSettings()


async def set_settings(
    tx: Transaction,
    *,
    project: str,
    screening: Screening | None = None,
    near_duplicates: float | None = None,
    forget_near_duplicates: bool = False,
) -> ProjectSettings | None:
    """Set what is given and return all settings as they are then; None where the project is not the transaction's.

    forget_near_duplicates: set it to None, which without this means that it stays as it is.
    """
    row = await tx.fetch_one(
        QUERIES["set_settings"],
        project,
        screening is not None,
        screening,
        near_duplicates is not None or forget_near_duplicates,
        near_duplicates,
    )
    return None if row is None else ProjectSettings(row["screening"], row["near_duplicates"])
