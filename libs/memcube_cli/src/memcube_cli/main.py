"""The operator's command `memcube`: one module per group of commands, each registered here."""

import typer

from memcube_cli import (
    demo,
    doctor,
    embeddings,
    init,
    insight,
    isolation,
    key,
    member,
    memory,
    nats_keys,
    parked,
    project,
    provision,
    query,
    quota,
    receipt,
    schedule,
    up,
    watch,
)

app = typer.Typer(
    name="memcube",
    help="Run and look after MemCube.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# A new group of commands is a module with a function `register(app)`, added to this list.
COMMANDS = (
    up, init, demo, insight, memory, query, schedule, watch, receipt, parked, project, member, key, quota, provision,
    nats_keys, embeddings, doctor, isolation
)  # fmt: skip
for group in COMMANDS:
    group.register(app)
