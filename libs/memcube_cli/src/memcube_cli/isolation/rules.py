"""Who may do what with which row, said a second time in plain Python: the attack compares the database with this.

Nothing here is read from a policy. A table or role that is not named falls under the strictest rule that can be true
of it: rows of the actor's own project, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Row = Mapping[str, Any]
"""A row as it is inserted: column name to a value JSON can carry."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A transaction as policies see it: a role of the database and the settings of `app.*`."""

    database_role: str
    project: str = ""
    principal: str = ""
    role: str = ""
    account: str = ""
    lookup: str = ""

    def __str__(self) -> str:
        said = (self.role, self.principal, "with account" if self.account else "", "with lookup" if self.lookup else "")
        return " ".join((self.database_role, *(word for word in said if word))) + (
            "" if self.project else " (no project)"
        )

    @property
    def privileged(self) -> bool:
        """Whether it reads and writes whatever governance says."""
        return self.role in {"OWNER", "ADMIN", "SERVICE"}


Allows = Callable[[Actor, Row], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows an actor may select, insert, update (as they are), turn into (as they become) and delete."""

    select: Allows
    insert: Allows
    update: Allows
    becomes: Allows
    delete: Allows

    def of(self, command: str) -> Allows:
        """The rule of one command, by its SQL name."""
        return {"SELECT": self.select, "INSERT": self.insert, "UPDATE": self.update, "DELETE": self.delete}[command]


def never(actor: Actor, row: Row) -> bool:
    """Nobody, nothing."""
    return False


def always(actor: Actor, row: Row) -> bool:
    """Everybody who holds the grant, everything."""
    return True


def own(actor: Actor, row: Row) -> bool:
    """The row is of the actor's project."""
    return actor.project != "" and row.get("project_id") == actor.project


def may_read(actor: Actor, memory: Row) -> bool:
    """Governance: OWNER, ADMIN and SERVICE read all; others what nothing keeps from them and something gives them."""
    if not own(actor, memory):
        return False
    if actor.privileged:
        return True
    if actor.principal in memory["denied"] or not is_alive(memory):
        return False
    by_name = actor.principal in memory["let_in"] and actor.role != "PUBLIC"
    by_role = memory["visibility"] == "project" and actor.role in memory["read_roles"]
    return by_name or by_role or memory["visibility"] == "public"


def is_alive(memory: Row) -> bool:
    """Neither quarantined nor over."""
    over = memory["expires_at"] is not None and datetime.fromisoformat(memory["expires_at"]) <= datetime.now(UTC)
    return memory["trust"] != "quarantined" and memory["lifecycle"] != "EXPIRED" and not over


def may_write_new(actor: Actor, memory: Row) -> bool:
    """Memories are made by privileged roles, and by members and agents under their own name."""
    if not own(actor, memory):
        return False
    return actor.privileged or (actor.role in {"MEMBER", "AGENT"} and memory["created_by"] == actor.principal)


def may_write(actor: Actor, memory: Row) -> bool:
    """A memory is changed by privileged roles, its creator, and the roles its governance names; never by the denied."""
    if not own(actor, memory):
        return False
    if actor.privileged:
        return True
    return (
        actor.role in {"MEMBER", "AGENT"}
        and actor.principal not in memory["denied"]
        and (memory["created_by"] == actor.principal or actor.role in memory["write_roles"])
    )


def may_end(actor: Actor, memory: Row) -> bool:
    """A memory is ended by privileged roles and by who made it, unless denied."""
    if not own(actor, memory):
        return False
    if actor.privileged:
        return True
    return (
        actor.role in {"MEMBER", "AGENT"}
        and memory["created_by"] == actor.principal
        and actor.principal not in memory["denied"]
    )


def follows(actor: Actor, change: Row) -> bool:
    """A change reaches who could read its memory then; a receipt its sender."""
    if not own(actor, change):
        return False
    if actor.privileged:
        return True
    if change["agent"] is not None:
        return change["agent"] == actor.principal
    if actor.principal in change["denied"]:
        return False
    return (
        actor.principal in change["let_in"]
        or change["visibility"] == "public"
        or (change["visibility"] == "project" and actor.role in change["read_roles"])
    )


def _managed(actor: Actor, row: Row, *, below: Callable[[Row], bool]) -> bool:
    """OWNER, or ADMIN where the row is below one; each by an account."""
    if not own(actor, row) or not actor.account:
        return False
    return actor.role == "OWNER" or (actor.role == "ADMIN" and below(row))


def _low(row: Row) -> bool:
    return row["role"] in {"MEMBER", "AGENT", "VIEWER"}


def _not_owner(row: Row) -> bool:
    return row["role"] != "OWNER"


def _by_itself(actor: Actor, row: Row) -> bool:
    return row["created_by"] == actor.principal


def _as(*principals: str) -> Allows:
    """Every row, for who comes under one of these names."""

    def allows(actor: Actor, row: Row) -> bool:
        return actor.principal in principals

    return allows


def _own_project(actor: Actor, row: Row) -> bool:
    return actor.project != "" and row["id"] == actor.project


def _manages_project(actor: Actor, row: Row) -> bool:
    return _own_project(actor, row) and actor.role in {"OWNER", "ADMIN"} and actor.account != ""


def _in_a_project(actor: Actor, row: Row) -> bool:
    return actor.project != ""


def _named(actor: Actor, row: Row) -> bool:
    return actor.principal != ""


def _a_room(actor: Actor, row: Row) -> bool:
    return actor.principal.startswith("room:")


def _own_or_outside(actor: Actor, row: Row) -> bool:
    """The actor's project; any where the transaction is in none (an administrator at psql)."""
    return actor.project in {"", row["project_id"]}


def _own_project_or_outside(actor: Actor, row: Row) -> bool:
    return actor.project in {"", row["id"]}


def _own_account(actor: Actor, row: Row) -> bool:
    return actor.account != "" and row["account_id"] == actor.account


def _account_itself(actor: Actor, row: Row) -> bool:
    return actor.account != "" and row["id"] == actor.account


def _account_found(actor: Actor, row: Row) -> bool:
    return _account_itself(actor, row) or (actor.lookup != "" and row["email_key"] == actor.lookup)


def _looked_up(actor: Actor, row: Row) -> bool:
    return actor.lookup != "" and row["hash"] == actor.lookup


def _id_looked_up(actor: Actor, row: Row) -> bool:
    return actor.lookup != "" and row["id"] == actor.lookup


def _own_token(actor: Actor, row: Row) -> bool:
    return _own_account(actor, row) and _looked_up(actor, row)


def _long_over(actor: Actor, row: Row) -> bool:
    return datetime.fromisoformat(row["expires_at"]) < datetime.now(UTC) - timedelta(days=1)


def _either(*rules: Allows) -> Allows:
    def allows(actor: Actor, row: Row) -> bool:
        return any(rule(actor, row) for rule in rules)

    return allows


def _forgettable(actor: Actor, row: Row) -> bool:
    old = datetime.fromisoformat(row["created_at"]) < datetime.now(UTC) - timedelta(hours=24)
    return actor.principal == "room:gateway" and old


def _recalled_long_ago(actor: Actor, row: Row) -> bool:
    old = datetime.fromisoformat(row["at"]) < datetime.now(UTC) - timedelta(hours=24)
    return actor.principal == "room:ingestion" and old


def _own_key(actor: Actor, row: Row) -> bool:
    return own(actor, row) and row["principal"] == actor.principal


def _privileged_in_own(actor: Actor, row: Row) -> bool:
    return own(actor, row) and actor.privileged


def _writes_in_own(actor: Actor, row: Row) -> bool:
    return own(actor, row) and (actor.privileged or actor.role in {"MEMBER", "AGENT"})


def _brings(actor: Actor, row: Row) -> bool:
    return _writes_in_own(actor, row) and row["state"] == "arriving"


def _brought(actor: Actor, row: Row) -> bool:
    return own(actor, row) and row["state"] == "kept"


def _links(actor: Actor, row: Row) -> bool:
    return _writes_in_own(actor, row) and _by_itself(actor, row)


def _reads_chain(actor: Actor, row: Row) -> bool:
    """Its maker, every MEMBER and AGENT unless it is private, privileged roles always."""
    if not own(actor, row):
        return False
    by_name = actor.principal == row["created_by"] and actor.role != "PUBLIC"
    return actor.privileged or by_name or (row["visibility"] == "project" and actor.role in {"MEMBER", "AGENT"})


def _changes_chain(actor: Actor, row: Row) -> bool:
    by_role = row["visibility"] == "project" and actor.role in row["write_roles"]
    return _writes_in_own(actor, row) and (actor.privileged or _by_itself(actor, row) or by_role)


def _ends_chain(actor: Actor, row: Row) -> bool:
    return _writes_in_own(actor, row) and (actor.privileged or _by_itself(actor, row))


def _asks(actor: Actor, row: Row) -> bool:
    return own(actor, row) and (actor.privileged or row["made_by"] == actor.principal)


def _asked(actor: Actor, row: Row) -> bool:
    return own(actor, row) and row["made_by"] == actor.principal and row["settled_at"] is None


def _scheduled_long_ago(actor: Actor, row: Row) -> bool:
    old = datetime.fromisoformat(row["made_at"]) < datetime.now(UTC) - timedelta(hours=24)
    return actor.principal == "room:scheduling" and old


def _schedule_waits(actor: Actor, row: Row) -> bool:
    return actor.principal == "room:scheduling" and (row["settled_at"] is None or row["recalled_at"] is None)


def _says(actor: Actor, row: Row) -> bool:
    return _writes_in_own(actor, row) and row["said_by"] == actor.principal


def _said(actor: Actor, row: Row) -> bool:
    return own(actor, row) and row["said_by"] == actor.principal


def _outcome_waits(actor: Actor, row: Row) -> bool:
    return actor.principal == "room:scheduling" and row["counted"] != row["outcome"]


def _sweeps_away(actor: Actor, row: Row) -> bool:
    return actor.principal == "room:lifecycle" and row["state"] == "leaving"


def _sender(actor: Actor, row: Row) -> bool:
    return own(actor, row) and (actor.privileged or row["agent_id"] == actor.principal)


def _sender_writes(actor: Actor, row: Row) -> bool:
    return own(actor, row) and (
        actor.privileged or (actor.role in {"MEMBER", "AGENT"} and row["agent_id"] == actor.principal)
    )


def _managers(actor: Actor, row: Row) -> bool:
    return own(actor, row) and actor.role in {"OWNER", "ADMIN"}


def _managers_by_account(actor: Actor, row: Row) -> bool:
    return _managers(actor, row) and actor.account != ""


def _manages_member(actor: Actor, row: Row) -> bool:
    return _managed(actor, row, below=_low)


def _removes_member(actor: Actor, row: Row) -> bool:
    return _manages_member(actor, row) or (own(actor, row) and _own_account(actor, row))


def _invites(actor: Actor, row: Row) -> bool:
    return _managed(actor, row, below=_low) and _by_itself(actor, row)


def _withdraws(actor: Actor, row: Row) -> bool:
    return _managed(actor, row, below=_low) and row["used_at"] is None


def _manages_key(actor: Actor, row: Row) -> bool:
    return _managed(actor, row, below=_not_owner)


def _makes_key(actor: Actor, row: Row) -> bool:
    return _manages_key(actor, row) and _by_itself(actor, row)


def _revoked_key(actor: Actor, row: Row) -> bool:
    return _manages_key(actor, row) and row["revoked_at"] is not None


def _joins(actor: Actor, row: Row) -> bool:
    return own(actor, row) and _own_account(actor, row)


def rule(
    select: Allows = never,
    *,
    insert: Allows = never,
    update: Allows = never,
    becomes: Allows | None = None,
    delete: Allows = never,
) -> Rule:
    """A rule of which what is not said is never allowed; a row becomes what it may be updated from, unless told."""
    return Rule(select, insert, update, becomes or update, delete)


OWN: Final = rule(own, insert=own, update=own, delete=own)
CLOSED: Final = rule()

_OPERATOR: Final = _as("operator")
_RELAY: Final = _as("room:relay")
_SWEEP: Final = _as("room:lifecycle")


def _tends(actor: Actor, row: Row) -> bool:
    return own(actor, row) and _SWEEP(actor, row)


_EMBEDDING: Final = _as("room:embedding")
_SCHEDULING: Final = _as("room:scheduling")
_DISPATCH: Final = _as("room:ingestion", "room:embedding", "room:lifecycle")

RULES: Final[Mapping[tuple[str, str], Rule]] = {
    # a request
    ("projects", "memcube_user"): rule(_own_project, update=_manages_project),
    ("projects", "memcube_anon"): rule(_own_project),
    ("memories", "memcube_user"): rule(may_read, insert=may_write_new, update=may_write, becomes=own, delete=may_end),
    ("memories", "memcube_anon"): rule(
        lambda actor, row: (
            own(actor, row) and row["visibility"] == "public" and actor.principal not in row["denied"] and is_alive(row)
        )
    ),
    ("memory_payloads", "memcube_user"): rule(insert=_writes_in_own),
    ("memory_text", "memcube_user"): rule(insert=_writes_in_own),
    ("memory_events", "memcube_user"): rule(_privileged_in_own),
    ("objects", "memcube_user"): rule(_writes_in_own, insert=_brings, update=_brings, becomes=_brought),
    ("chains", "memcube_user"): rule(_reads_chain, update=_changes_chain, becomes=own, delete=_ends_chain),
    ("insights", "memcube_user"): rule(_sender, insert=_sender_writes, update=_sender_writes, becomes=own),
    ("conversations", "memcube_user"): rule(_sender, insert=_sender_writes),
    ("schedules", "memcube_user"): rule(_asks, insert=_asked),
    ("idempotency_keys", "memcube_user"): rule(_own_key, insert=_own_key, update=_own_key),
    ("work_queue", "memcube_user"): rule(insert=own),
    ("changes", "memcube_user"): rule(follows),
    ("feed", "memcube_user"): rule(own),
    ("feed_heads", "memcube_user"): rule(own),
    ("embedding_models", "memcube_user"): rule(_in_a_project),
    ("embedding_models", "memcube_anon"): rule(_in_a_project),
    ("members", "memcube_user"): rule(own, update=_manages_member, delete=_removes_member),
    ("invitations", "memcube_user"): rule(_managers_by_account, insert=_invites, delete=_withdraws),
    ("api_keys", "memcube_user"): rule(
        _managers_by_account, insert=_makes_key, update=_manages_key, becomes=_revoked_key
    ),
    ("project_events", "memcube_user"): rule(_managers),
    ("recommendations", "memcube_user"): rule(_asks),
    # the door
    ("accounts", "memcube_doorkeeper"): rule(_account_found, insert=_account_itself, update=_account_itself),
    ("sessions", "memcube_doorkeeper"): rule(
        _either(_own_account, _id_looked_up, _long_over),
        insert=_own_account,
        update=_own_account,
        delete=_long_over,
    ),
    ("refresh_tokens", "memcube_doorkeeper"): rule(
        _either(_own_token, _long_over), insert=_own_account, update=_own_token, delete=_long_over
    ),
    ("members", "memcube_doorkeeper"): rule(_own_account, insert=_joins),
    ("invitations", "memcube_doorkeeper"): rule(_looked_up, update=_looked_up),
    ("api_keys", "memcube_doorkeeper"): rule(_either(_looked_up, _id_looked_up), update=_looked_up),
    ("projects", "memcube_doorkeeper"): rule(_own_project, insert=_own_project),
    # rooms at work
    ("projects", "memcube_worker"): rule(_own_project),
    ("idempotency_keys", "memcube_worker"): rule(_forgettable, delete=_forgettable),
    ("embedding_models", "memcube_worker"): rule(_a_room, insert=_EMBEDDING, update=_EMBEDDING),
    ("embedding_migrations", "memcube_worker"): rule(_a_room, update=_EMBEDDING),
    ("schema_migrations", "memcube_worker"): rule(_named),
    ("vector_graphs", "memcube_worker"): rule(own, insert=_tends, delete=_tends),
    # owners of definer functions
    ("memories", "memcube_search"): rule(may_read),
    ("memory_text", "memcube_search"): rule(always),  # so that `@@` keeps its index: its functions name the project
    ("memory_task_links", "memcube_search"): rule(own, insert=_links, delete=_writes_in_own),
    ("schedules", "memcube_search"): rule(_asks),
    ("schedule_outcomes", "memcube_search"): rule(own, insert=_says, update=_writes_in_own, becomes=_said),
    ("chains", "memcube_search"): rule(_reads_chain, insert=_links, update=_changes_chain, becomes=own),
    ("changes", "memcube_feed"): rule(insert=_own_or_outside),
    ("memories", "memcube_feed"): rule(_own_or_outside),
    ("chain_items", "memcube_feed"): rule(_own_or_outside),
    ("memory_events", "memcube_feed"): rule(insert=_own_or_outside),
    ("work_queue", "memcube_dispatch"): rule(_DISPATCH, update=_DISPATCH),
    ("recalls", "memcube_dispatch"): rule(_recalled_long_ago, delete=_recalled_long_ago),
    ("schedules", "memcube_dispatch"): rule(_either(_scheduled_long_ago, _schedule_waits), delete=_scheduled_long_ago),
    ("schedule_outcomes", "memcube_dispatch"): rule(_outcome_waits),
    ("usage_marks", "memcube_dispatch"): rule(_SCHEDULING),
    ("objects", "memcube_dispatch"): rule(_SWEEP, update=_SWEEP, delete=_sweeps_away),
    ("memory_vectors", "memcube_dispatch"): rule(_SWEEP),
    ("text_changes", "memcube_dispatch"): rule(_SWEEP),
    ("vector_graphs", "memcube_dispatch"): rule(_SWEEP),
    ("vector_graphs", "memcube_search"): rule(own),
    ("projects", "memcube_dispatch"): rule(_SWEEP),
    ("embedding_models", "memcube_dispatch"): rule(_SWEEP),
    ("project_events", "memcube_governor"): rule(insert=_own_or_outside),
    ("projects", "memcube_governor"): rule(_own_project_or_outside),
    # across projects, under a name of their own
    ("changes", "memcube_relay"): rule(_RELAY),
    ("feed", "memcube_relay"): rule(_RELAY, insert=_RELAY),
    ("feed_heads", "memcube_relay"): rule(_RELAY, insert=_RELAY, update=_RELAY),
    ("relay_cursor", "memcube_relay"): rule(_RELAY, update=_RELAY),
    ("parked", "memcube_operator"): rule(_OPERATOR, delete=_OPERATOR),
    ("insights", "memcube_operator"): rule(_OPERATOR, update=_OPERATOR),
    ("conversations", "memcube_operator"): rule(_OPERATOR, update=_OPERATOR),
    ("work_queue", "memcube_operator"): rule(_OPERATOR, insert=_OPERATOR),
    ("embedding_models", "memcube_operator"): rule(_OPERATOR, update=_OPERATOR),
    ("embedding_migrations", "memcube_operator"): rule(_OPERATOR, insert=_OPERATOR, update=_OPERATOR),
    ("embedding_backfills", "memcube_operator"): rule(_OPERATOR),
    ("projects", "memcube_operator"): rule(_OPERATOR, insert=_OPERATOR, update=_OPERATOR),
    ("accounts", "memcube_operator"): rule(_OPERATOR, insert=_OPERATOR),
    ("members", "memcube_operator"): rule(_OPERATOR, insert=_OPERATOR),
    ("invitations", "memcube_operator"): rule(_OPERATOR),
    ("api_keys", "memcube_operator"): rule(_OPERATOR, insert=_OPERATOR),
    ("schema_migrations", "memcube_operator"): rule(_named),
    # the owner of the tables is held by the policies like everybody else
    ("schema_migrations", "memcube_owner"): rule(always, insert=always),
}


def rule_of(table: str, role: str) -> Rule:
    """The rule for `role` on `table`: the one written down, or the strictest that can be true."""
    if role == "memcube_owner":
        return RULES.get((table, role), CLOSED)
    return RULES.get((table, role), OWN)
