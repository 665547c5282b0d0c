"""Who a command acts as at the gateway: an account, by an access token or by signing in."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from memcube import MemCubeClient
from memcube_cli.house import GatewaySettings, fail
from memcube_cli.settings import CliSettings
from memcube_cli.stack import StackFile, home_folder

ProjectOption = Annotated[
    str | None, typer.Option("--project", help="The project; $MEMCUBE_PROJECT or the stack's own.")
]
TokenOption = Annotated[str | None, typer.Option("--token", help="An access token, instead of signing in.")]
EmailOption = Annotated[str | None, typer.Option("--email", help="Who signs in; the password is asked for.")]


class AccountSettings(BaseSettings):
    """Who signs in, for scripts."""

    model_config = SettingsConfigDict(env_prefix="MEMCUBE_", frozen=True, extra="ignore", env_ignore_empty=True)

    token: SecretStr | None = Field(default=None, description="An access token, instead of signing in")
    email: str | None = Field(default=None, description="Who signs in")
    password: SecretStr | None = Field(default=None, description="The password; asked for if unset")


class Person:
    """Somebody signed in, asking about one project."""

    def __init__(self, client: MemCubeClient) -> None:
        self._client = client

    async def ask(
        self,
        method: Literal["GET", "POST", "PATCH", "DELETE"],
        path: str,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """What the gateway answers under the project's path. Raises the MemCubeError it names."""
        return await self._client.ask(method, path, body)


@asynccontextmanager
async def person(project: str | None, token: str | None, email: str | None) -> AsyncGenerator[Person]:
    """Somebody at the gateway of this command, signed out again at the end if they signed in here."""
    known = AccountSettings()
    given = GatewaySettings()
    address, own = _gateway(given)
    token = token or (known.token.get_secret_value() if known.token is not None else None)
    email = email or known.email
    async with MemCubeClient(address, token, project or given.project or own) as client:
        if token is None:
            if email is None:
                fail("Say who you are: --email, or --token with an access token.", 2)
            password = (
                known.password.get_secret_value()
                if known.password is not None
                else typer.prompt("Password", hide_input=True, err=True)
            )
            await client.auth.sign_in_with_password(email, password)
        yield Person(client)
        if token is None:
            await client.auth.sign_out()


def _gateway(given: GatewaySettings) -> tuple[str, str]:
    """The gateway's address, and the project its stack was made with."""
    if given.url is not None:
        return given.url, "demo"
    stack = StackFile(home_folder(CliSettings().home, Path.cwd())).read()
    if stack is None or not stack.is_running or stack.gateway is None:
        fail("MemCube does not run in this checkout. Start it with: make up, or set MEMCUBE_URL.")
    return stack.gateway, stack.project
