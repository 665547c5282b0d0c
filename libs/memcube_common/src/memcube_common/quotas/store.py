"""Quotas in Postgres: take what a piece of work needs, in its own transaction; say once that nothing is left."""

from __future__ import annotations

from memcube_common.db import Database, Statements, Transaction
from memcube_common.errors import QuotaExceeded, TryAgain
from memcube_common.quotas.domain import ORDER, Need, Quota, Resource
from memcube_common.security.principal import Principal

QUERIES = Statements(__package__)


async def take(tx: Transaction, *, need: Need) -> None:
    """Take `need` for the transaction's project, all or nothing: what is rolled back was never taken.

    Raises QuotaExceeded, after which the transaction must not be committed.
    """
    wanted = [(resource, need[resource]) for resource in ORDER if need.get(resource)]
    if not wanted:
        return
    refused = await tx.fetch_value(QUERIES["take_quotas"], [name for name, _ in wanted], [many for _, many in wanted])
    if refused is not None:
        raise await refusal(tx, resource=refused)


async def refusal(tx: Transaction, *, resource: Resource) -> QuotaExceeded:
    """The error that says what of `resource` the transaction's project may have at most."""
    found = {quota.resource: quota for quota in await read_quotas(tx)}
    return QuotaExceeded(resource, found[resource].max or 0)


async def announce_refusal(db: Database, *, principal: Principal, refused: QuotaExceeded) -> None:
    """Announce `quota.v1.exhausted`, once in a period, beside the refused transaction, which is undone.

    Where Postgres is away nothing is announced; the next refusal does it.
    """
    try:
        async with db.transaction(principal, deadline=2.0) as tx:
            await tx.execute(QUERIES["exhaust_quota"], refused.resource)
    except TryAgain:
        return


async def read_quotas(tx: Transaction) -> list[Quota]:
    """Every resource of the transaction's project."""
    return [Quota(**dict(row)) for row in await tx.fetch(QUERIES["read_quotas"])]


async def set_quota(tx: Transaction, *, resource: Resource, maximum: int | None) -> None:
    """Give the transaction's project another maximum (None: unlimited). For the operator."""
    await tx.execute(QUERIES["set_quota"], resource, maximum)
