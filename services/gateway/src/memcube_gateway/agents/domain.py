"""What is decided about agents on NATS without looking anywhere: who asks to come in, and what they may reach."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast, get_args

from memcube_common.contracts import subjects
from memcube_common.contracts.fields import Role
from memcube_common.governance.domain import PRIVILEGED, WRITERS
from memcube_common.ids import is_agent_name, is_project_slug
from memcube_common.security.grants import Grant
from memcube_common.security.nkeys import SERVER, AccountKey, verified
from memcube_gateway.credentials.domain import may_submit

LONGEST_SECONDS: Final = 3600
REQUEST_INFO: Final = "Nats-Request-Info"
FOLLOWERS: Final = WRITERS  # what is open to these, a VIEWER may not be meant to hear
_ROLES: Final = frozenset((*get_args(Role), "PUBLIC"))
_REQUEST: Final = "nats-authorization-request"


@dataclass(frozen=True, slots=True)
class Knock:
    """Somebody asks the server to come in: as whom, with which secret, and where the answer belongs."""

    server: str
    user_key: str
    project: str
    agent: str
    secret: str


@dataclass(frozen=True, slots=True)
class Connected:
    """Who is behind a connection in the account AGENTS, as the server tells it from the JWT we signed.

    connection: a name of this one connection that nobody else knows.
    """

    grant: Grant
    connection: str

    def tag(self) -> str:
        """As one line of text: the JWT's name."""
        grant = self.grant
        until = 0 if grant.expires_at is None else int(grant.expires_at.timestamp())
        return "/".join((grant.project, grant.agent, grant.role, str(until), self.connection, grant.credential))


def connected_from(tag: object) -> Connected | None:
    """What `Connected.tag` wrote, or None for anything else."""
    parts = tag.split("/", 5) if isinstance(tag, str) else []
    if len(parts) != 6 or parts[2] not in _ROLES or not parts[3].isdigit():
        return None
    project, agent, role, until, connection, credential = parts
    expires = datetime.fromtimestamp(int(until), UTC) if int(until) else None
    return Connected(Grant(project, agent, cast("Role", role), credential, expires), connection)


def asker(headers: Mapping[str, str] | None) -> Connected | None:
    """Who sent a request out of the account AGENTS: the server itself writes this header, over one of the sender's.

    None where it is missing: then the request did not come from an agent, e.g. it is an answer that somebody had
    addressed to one of our subjects.
    """
    try:
        said = json.loads((headers or {})[REQUEST_INFO])
        return connected_from(said["user"]) if said["acc"] == subjects.AGENTS_ACCOUNT else None
    except (KeyError, TypeError, ValueError):
        return None


class Roads:
    """What agents reach. The names of their durables cannot be guessed by others: they are made with the seed.

    Reply subjects are not checked by the server, so whoever knew the name of another's durable could address an answer
    to it and pull in its name.
    """

    def __init__(self, seed: str) -> None:
        self._key = hmac.digest(seed.encode(), b"memcube durables", hashlib.sha256)

    def durable(self, project: str, agent: str, *, restricted: bool) -> str:
        """The consumer of an agent's changes; with restricted ones under another name, lost with the role."""
        said = f"{project}/{agent}/{'restricted' if restricted else 'open'}"
        return f"p_{project}_{agent}_{hmac.digest(self._key, said.encode(), hashlib.sha256).hex()[:24]}"

    def receipts(self, who: Connected) -> str:
        """The consumer of the receipts that one connection hears."""
        return f"r_{who.grant.project}_{who.grant.agent}_{who.connection}"

    def permissions(self, who: Connected, secret: str) -> dict[str, Any]:
        """The `pub` and `sub` of an agent's JWT. Raises ValueError for a name that may not stand in a subject."""
        grant = who.grant
        if not is_project_slug(grant.project) or not is_agent_name(grant.agent) or grant.role not in _ROLES:
            raise ValueError("not a name that may stand in a subject")
        publish = [subjects.ask_subject(grant.project, subjects.ASK_QUERY, grant.agent)]
        if grant.role != "PUBLIC":
            publish.append(subjects.ask_subject(grant.project, subjects.ASK_SCHEDULE, grant.agent))
        if may_submit(grant.role):
            publish.append(f"memcube.{grant.project}.insight.v1.submitted.{grant.agent}")
        if grant.role in FOLLOWERS:
            publish.append(subjects.ask_subject(grant.project, subjects.ASK_FOLLOW, grant.agent))
            changes = self.durable(grant.project, grant.agent, restricted=grant.role in PRIVILEGED)
            for durable in (changes, self.receipts(who)):
                publish += [
                    f"{subjects.AGENTS_NEXT}.{durable}",
                    f"{subjects.CHANGES_ACK}.{durable}.>",
                ]
        return {"pub": {"allow": publish}, "sub": {"allow": [f"{inbox_prefix(secret)}.>"]}}


def inbox_prefix(secret: str) -> str:
    """Where the holder of `secret` hears its answers: nobody who does not hold it can say where that is."""
    return "_INBOX_" + hashlib.sha256(b"memcube inbox\n" + secret.encode()).hexdigest()[:32]


def read_knock(token: bytes) -> Knock:
    """The server's question whom it may let in. The credentials are `<project>.<agent>` and a secret.

    A client that can only send a token sends `<project>.<agent>:<secret>`. That the question comes from a server is
    what the account AUTH is for: nobody but a server can ask in it. Raises ValueError.
    """
    claims = verified(token.decode("ascii", "replace"), issued_by=SERVER)
    try:
        asked = cast("dict[str, Any]", claims["nats"])
        options = cast("dict[str, Any]", asked.get("connect_opts") or {})
        server, user_key = str(asked["server_id"]["id"]), str(asked["user_nkey"])
        if claims["aud"] != _REQUEST or claims["iss"] != server:
            raise ValueError("not a question of this server")
        name, secret = str(options.get("user") or ""), str(options.get("pass") or "")
        if not name and not secret:
            name, _, secret = str(options.get("auth_token") or "").partition(":")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a question whom to let in") from error
    project, _, agent = name.partition(".")
    return Knock(server, user_key, project, agent, secret)


def admitted(knock: Knock, grant: Grant, *, roads: Roads, key: AccountKey, now: datetime) -> bytes:
    """The answer that lets an agent in, for an hour at most. Raises ValueError where its names are not sound."""
    if (grant.project, grant.agent) != (knock.project, knock.agent):
        raise ValueError("a grant for somebody else")
    who = Connected(grant, secrets.token_hex(12))
    until = int(now.timestamp()) + LONGEST_SECONDS
    if grant.expires_at is not None:
        until = min(until, int(grant.expires_at.timestamp()))
    user = key.sign(
        {
            "sub": knock.user_key,
            "aud": subjects.AGENTS_ACCOUNT,
            "name": who.tag(),
            "exp": until,
            "nats": {
                "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
                **roads.permissions(who, knock.secret),
            },
        }
    )  # fmt: skip
    return _answer(knock, key, {"jwt": user})


def refused(knock: Knock, *, key: AccountKey, why: Literal["not signed in", "try again"]) -> bytes:
    """The answer that lets nobody in."""
    return _answer(knock, key, {"error": why})


def _answer(knock: Knock, key: AccountKey, said: Mapping[str, str]) -> bytes:
    body = {"type": "authorization_response", "version": 2, **said}
    return key.sign({"sub": knock.user_key, "aud": knock.server, "nats": body}).encode()
