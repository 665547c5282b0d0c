"""`memcube provision`: make what the rooms expect on servers of one's own; `memcube up` does it by itself."""

import asyncio
import time
from typing import Annotated, Final
from urllib.parse import urlsplit

import asyncpg
import nats.errors
import typer
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from memcube_cli.console import complain, say
from memcube_cli.house import fail, run
from memcube_common.ids import is_project_slug
from memcube_common.provision import ROOMS, ensure_project, provision

SECRET_LENGTH: Final = 16
_AWAY: Final = (OSError, TimeoutError, asyncpg.CannotConnectNowError, nats.errors.NoServersError)
_EVERY: Final = 1.0  # seconds between two tries while a server is away

_LoginPassword = Annotated[SecretStr, Field(description="Password the room signs in to Postgres with")]


def _long_enough(url: SecretStr) -> SecretStr:
    password = urlsplit(url.get_secret_value()).password
    if password is not None and len(password) < SECRET_LENGTH:
        raise ValueError(f"the password in it must have at least {SECRET_LENGTH} characters")
    return url


def _with_credentials(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if len(parts.password or parts.username or "") < SECRET_LENGTH:  # a user name alone is a token
        raise ValueError(f"must carry a password or token of at least {SECRET_LENGTH} characters")
    return url


def _fit_for_a_url(password: SecretStr) -> SecretStr:
    text = password.get_secret_value()
    if len(text) < SECRET_LENGTH or not all(c.isascii() and (c.isalnum() or c in "-._~") for c in text):
        raise ValueError(f"must be at least {SECRET_LENGTH} characters of A-Z, a-z, 0-9, '-', '.', '_' and '~'")
    return password


class ProvisionSettings(BaseSettings):
    """What `memcube provision` is told by its environment; nothing here has a default, and empty is unset."""

    model_config = SettingsConfigDict(
        env_prefix="MEMCUBE_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    postgres_dsn: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        description="Postgres as a role that may create roles and extensions"
    )
    nats_url: Annotated[SecretStr, AfterValidator(_with_credentials)] = Field(
        description="NATS as a user of the account that holds the streams"
    )
    login_password_gateway: Annotated[_LoginPassword, AfterValidator(_fit_for_a_url)]
    login_password_ingestion: Annotated[_LoginPassword, AfterValidator(_fit_for_a_url)]
    login_password_embedding: Annotated[_LoginPassword, AfterValidator(_fit_for_a_url)]
    login_password_scheduling: Annotated[_LoginPassword, AfterValidator(_fit_for_a_url)]
    login_password_marketplace: Annotated[_LoginPassword, AfterValidator(_fit_for_a_url)]
    login_password_lifecycle: Annotated[_LoginPassword, AfterValidator(_fit_for_a_url)]

    @property
    def logins(self) -> dict[str, str]:
        """The password of each room's login role, by room."""
        passwords: dict[str, SecretStr] = {room: getattr(self, f"login_password_{room}") for room in ROOMS}
        return {room: password.get_secret_value() for room, password in passwords.items()}


def register(app: typer.Typer) -> None:
    """Add this module's command to the application."""
    app.command("provision")(provision_servers)


def provision_servers(
    project: Annotated[str | None, typer.Option(help="Also make this project, and print its key if it is new.")] = None,
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each stream: 3 on a NATS cluster.")] = 1,
    within: Annotated[float, typer.Option(min=0, help="Seconds to wait for the servers.")] = 60.0,
) -> None:
    """Make roles, schema and streams on servers of one's own. Running it again changes nothing."""
    if project is not None and not is_project_slug(project):
        fail(f"'{project}' cannot name a project: 1-63 characters of a-z, 0-9 and '-' are needed.", 2)
    run(_provision(_settings(), project, replicas, within))


def _settings() -> ProvisionSettings:
    """The settings, or the end of the command with one sentence for each that is missing or unfit."""
    try:
        return ProvisionSettings()  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            name = f"MEMCUBE_{fault['loc'][0]}".upper()
            why = "is not set" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
            complain(f"{name}: {why}")
        raise typer.Exit(2) from None


async def _provision(settings: ProvisionSettings, project: str | None, replicas: int, within: float) -> int:
    dsn, url = settings.postgres_dsn.get_secret_value(), settings.nats_url.get_secret_value()
    give_up = time.monotonic() + within
    while True:
        try:
            await provision(admin_dsn=dsn, nats_url=url, logins=settings.logins, replicas=replicas)
            break
        except _AWAY as error:
            if time.monotonic() + _EVERY > give_up:
                fail(f"A server does not answer ({type(error).__name__}).")
            await asyncio.sleep(_EVERY)
        except (asyncpg.PostgresError, nats.errors.Error) as error:
            fail(f"The servers could not be prepared: {type(error).__name__}: {error}")
    complain("roles, schema and streams are there")
    if project is not None:
        key = await ensure_project(admin_dsn=dsn, project=project)
        if key is None:
            complain(f"there is a project '{project}' already; its key was printed when it was made")
        else:
            say(key)
    return 0
