"""The one road to Postgres: a pool, a tenant transaction, and SQL as named text."""

from memcube_common.db.pool import Database, Transaction
from memcube_common.db.statements import Statement, Statements

__all__ = ["Database", "Statement", "Statements", "Transaction"]
