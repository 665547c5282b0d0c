"""What the gateway is told by its environment."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from memcube_common.insights.settings import LearningSettings
from memcube_common.objects.settings import ObjectSettings
from memcube_common.rerank.settings import RerankSettings
from memcube_common.security.nkeys import AccountKey
from memcube_common.security.strength import weakness_of_password
from memcube_common.security.tokens import TokenKeys
from memcube_gateway.arrivals import read_networks
from memcube_gateway.origins import read_origins


def _fit_to_sign(keys: SecretStr) -> SecretStr:
    TokenKeys(keys.get_secret_value())
    return keys


def _an_account_seed(seed: SecretStr) -> SecretStr:
    AccountKey(seed.get_secret_value())
    return seed


def _with_credentials(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("nats", "tls") or not parts.hostname or not parts.username or not parts.password:
        raise ValueError("must be nats://USER:PASSWORD@HOST:PORT")
    if (weakness := weakness_of_password(parts.password)) is not None:
        raise ValueError(f"the password {weakness}")
    return url


def _networks(text: str) -> str:
    read_networks(text)
    return text


def _origins(text: str) -> str:
    read_origins(text)
    return text


class GatewaySettings(ObjectSettings, LearningSettings, RerankSettings):
    """The settings of the HTTP door."""

    token_keys: Annotated[SecretStr, AfterValidator(_fit_to_sign)] = Field(
        description="Ed25519 seeds, 32 random bytes each in base64url, separated by commas: the first signs access"
        " tokens and derives refresh tokens, all verify."
    )
    issuer: str = Field(
        default="memcube", min_length=1, max_length=200, description="The issuer (`iss`) of this house's access tokens."
    )
    pool_size: int = Field(default=10, ge=1, le=64, description="Most Postgres connections this process holds.")
    answer_within: float = Field(
        default=1.8, gt=0, le=60, description="Seconds a request may spend on Postgres before it is answered 503."
    )
    embed_within: float = Field(
        default=1.0, gt=0, le=30, description="Seconds to wait for a question's vector before searching by words only."
    )
    body_limit: int = Field(
        default=8 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest request body in bytes."
    )
    body_within: float = Field(
        default=30.0, gt=0, le=600, description="Seconds a request's body may take to arrive before it is answered 408."
    )
    upload_within: float = Field(
        default=600.0, gt=0, le=2_700, description="Seconds a payload may take to arrive before it is answered 408."
    )
    upload_stall: float = Field(
        default=30.0, gt=0, le=600, description="Seconds without a byte of a payload before it is answered 408."
    )
    download_stall: float = Field(
        default=30.0, gt=0, le=600, description="Seconds a reader may take for 256 KiB before it is cut off."
    )
    subscribers_max: int = Field(
        default=2_000, ge=1, le=100_000, description="Most change streams one process keeps open at a time."
    )
    subscribers_per_key: int = Field(
        default=200, ge=1, le=100_000, description="Most change streams of one key or session in one process."
    )
    subscribers_per_project: int = Field(
        default=1_000, ge=1, le=100_000, description="Most change streams of one project in one process."
    )
    heartbeat: float = Field(
        default=15.0, gt=0, le=300, description="Seconds of silence after which a change stream says it is alive."
    )
    slow_after: float = Field(
        default=20.0, gt=0, le=300, description="Seconds a subscriber may take to accept data before it is closed."
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] | None = Field(
        default=None,
        description="Comma-separated networks (CIDR) of proxies that are believed about X-Forwarded-For and -Proto.",
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] | None = Field(
        default=None,
        description="Comma-separated origins, as 'https://app.example.com', whose pages may call the gateway.",
    )
    key_rate: float = Field(default=2_000, gt=0, le=1e6, description="Requests a second of one key or session.")
    key_burst: int = Field(default=4_000, ge=1, le=10**7, description="Requests of one key or session at once.")
    project_rate: float = Field(default=4_000, gt=0, le=1e6, description="Requests a second of one project.")
    project_burst: int = Field(default=8_000, ge=1, le=10**7, description="Requests of one project at once.")
    address_rate: float = Field(
        default=2_000, gt=0, le=1e6, description="Requests a second from one address (IPv6: one /64)."
    )
    address_burst: int = Field(default=4_000, ge=1, le=10**7, description="Requests from one address at once.")
    stranger_rate: float = Field(
        default=50, gt=0, le=1e6, description="Requests a second from one address without a good credential."
    )
    stranger_burst: int = Field(
        default=5_000, ge=1, le=10**7, description="Requests from one address without a good credential at once."
    )
    limits_remembered: int = Field(
        default=50_000, ge=1_000, le=10**7, description="Addresses, keys and projects whose rate is kept in memory."
    )
    nats_callout_url: Annotated[SecretStr, AfterValidator(_with_credentials)] | None = Field(
        default=None,
        description="NATS as the user `callout` of the account AUTH: whom to let in as an agent is answered there."
        " Agents over NATS need this, `MEMCUBE_NATS_SYSTEM_URL` and `MEMCUBE_NATS_CALLOUT_SEED`, all three or none.",
    )
    nats_system_url: Annotated[SecretStr, AfterValidator(_with_credentials)] | None = Field(
        default=None, description="NATS as the user `system` of the account SYS: revoked agents are disconnected there."
    )
    nats_callout_seed: Annotated[SecretStr, AfterValidator(_an_account_seed)] | None = Field(
        default=None,
        description="Seed of an account nkey (`SA…`); its public key is the server's `MEMCUBE_NATS_CALLOUT_ISSUER`."
        " `memcube nats-keys` makes both.",
    )

    @model_validator(mode="after")
    def _agents_wholly_or_not(self) -> Self:
        given = [one is not None for one in (self.nats_callout_url, self.nats_system_url, self.nats_callout_seed)]
        if any(given) and not all(given):
            raise ValueError(
                "MEMCUBE_NATS_CALLOUT_URL, MEMCUBE_NATS_SYSTEM_URL, MEMCUBE_NATS_CALLOUT_SEED: set all of them or none"
            )
        return self
