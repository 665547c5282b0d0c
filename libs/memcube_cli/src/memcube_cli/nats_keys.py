"""`memcube nats-keys`: the key by which the gateway lets agents in, for a NATS server of one's own."""

from __future__ import annotations

import typer

from memcube_common.bus.accounts import ISSUER_VARIABLE
from memcube_common.security.nkeys import AccountKey, new_account_seed


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command("nats-keys")(nats_keys)


def nats_keys() -> None:
    """Make a new key for the auth callout and print both halves as two lines of a .env file.

    The seed is the gateway's secret, the issuer is what the NATS server believes. Making another one later disconnects
    no agent before its hour is over, and begins every agent's changes anew.
    """
    seed = new_account_seed()
    typer.echo(f"MEMCUBE_NATS_CALLOUT_SEED={seed}")
    typer.echo(f"{ISSUER_VARIABLE}={AccountKey(seed).issuer}")
