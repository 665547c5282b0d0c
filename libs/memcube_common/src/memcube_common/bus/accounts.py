"""Who may do what on NATS, declared once: the accounts, every room's user, and what agents reach of the house.

`accounts_configuration` writes it as the server reads it. Secrets are never in that text: each stands there as an
environment variable of the server. docs/adr/0012-nats-accounts-and-the-callout.md says why it is shaped like this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from memcube_common.contracts import subjects

OPERATOR: Final = "memcube"
CALLOUT: Final = "callout"
SYSTEM: Final = "system"
ISSUER_VARIABLE: Final = "MEMCUBE_NATS_CALLOUT_ISSUER"

INSIGHTS_DURABLE: Final = "ingestion-insight-submitted"
ADVISORIES_DURABLE: Final = "ingestion-deliveries-exhausted"
ADVISED: Final = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.INSIGHTS.>"

_NEXT: Final = "$JS.API.CONSUMER.MSG.NEXT"


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may publish and subscribe to, beside its own inbox. `answers`: it may answer what it is asked."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    answers: bool = False


def _consuming(stream: str, durable: str, subject: str) -> tuple[str, ...]:
    """What it takes to make one durable pull consumer with this filter, and to work it."""
    return (
        f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.{subject}",
        f"$JS.API.CONSUMER.INFO.{stream}.{durable}",
        f"{_NEXT}.{stream}.{durable}",
        f"$JS.ACK.{stream}.{durable}.>",
    )


ROOM_USERS: Final[Mapping[str, Permissions]] = MappingProxyType(
    {
        "gateway": Permissions(
            publish=(
                subjects.EMBED_TEXTS,
                subjects.MAKE_SCHEDULE,
                subjects.BELL_INSIGHTS,
                subjects.BELL_MEMORIES,
                subjects.BELL_CHANGES,
                subjects.INSIGHTS,
                "$JS.API.CONSUMER.CREATE.CHANGES.*",
                "$JS.API.CONSUMER.INFO.CHANGES.*",
                "$JS.API.CONSUMER.DELETE.CHANGES.*",
                "$JS.API.CONSUMER.NAMES.CHANGES",
            ),
            subscribe=(*subjects.CHANGES, subjects.AGENT_ASKS, subjects.AGENT_INSIGHTS),
            answers=True,
        ),
        "ingestion": Permissions(
            publish=(
                subjects.BELL_MEMORIES,
                subjects.BELL_CHANGES,
                *subjects.CHANGES,
                *_consuming("INSIGHTS", INSIGHTS_DURABLE, subjects.INSIGHTS),
                *_consuming("ADVISORIES", ADVISORIES_DURABLE, ADVISED),
                "$JS.API.STREAM.MSG.GET.INSIGHTS",
            ),
            subscribe=(subjects.BELL_INSIGHTS, subjects.BELL_CHANGES),
        ),
        "embedding": Permissions(
            publish=(subjects.BELL_CHANGES,),
            subscribe=(subjects.BELL_MEMORIES, subjects.EMBED_TEXTS),
            answers=True,
        ),
        "scheduling": Permissions(
            publish=(subjects.EMBED_TEXTS,),
            subscribe=(subjects.MAKE_SCHEDULE,),
            answers=True,
        ),
        "marketplace": Permissions(),
        "lifecycle": Permissions(),
    }
)
"""Every room's user, named as the room, in the account MEMCUBE."""

STATIC_USERS: Final = (OPERATOR, *ROOM_USERS, CALLOUT, SYSTEM)
"""Everybody who signs in with a password of the server's own. Whoever else comes is asked about at the callout."""


def inbox_of(name: str) -> str:
    """The prefix of the inboxes that `name` hears its answers on: nobody else may listen there."""
    return f"_INBOX_{name}"


def password_variable(user: str) -> str:
    """The environment variable in which the server finds the password of one of STATIC_USERS."""
    return "MEMCUBE_NATS_PASSWORD" + ("" if user == OPERATOR else f"_{user.upper()}")


def server_environment(passwords: Mapping[str, str], issuer: str) -> dict[str, str]:
    """The secrets as the server reads them: quoted, because a bare word that begins with a digit is a number to it."""
    return {password_variable(user): json.dumps(passwords[user]) for user in STATIC_USERS} | {
        ISSUER_VARIABLE: json.dumps(issuer)
    }


def accounts_configuration() -> str:
    """The block of a nats-server configuration that declares accounts, users, permissions and the callout."""
    rooms = "\n".join(_user(room, permissions) for room, permissions in ROOM_USERS.items())
    return f"""\
# Declared in libs/memcube_common/src/memcube_common/bus/accounts.py; docs/generate.py writes it to deploy/nats/.
accounts {{
  # Asks the gateway whom to let in.
  AUTH {{
    users: [ {{ user: {CALLOUT}, password: ${password_variable(CALLOUT)} }} ]
  }}

  # The house: streams, rooms, and the operator, who may do everything.
  MEMCUBE {{
    jetstream: enabled
    users: [
      {{ user: {OPERATOR}, password: ${password_variable(OPERATOR)} }}
{rooms}
    ]
    exports: [
      {{ service: "{subjects.AGENT_ASKS}", accounts: [{subjects.AGENTS_ACCOUNT}] }}
      {{ service: "{subjects.AGENT_INSIGHTS}", accounts: [{subjects.AGENTS_ACCOUNT}] }}
      {{ service: "{_NEXT}.CHANGES.*", response_type: stream, accounts: [{subjects.AGENTS_ACCOUNT}] }}
      {{ service: "{subjects.CHANGES_ACK}.>", accounts: [{subjects.AGENTS_ACCOUNT}] }}
    ]
  }}

  # Agents: nobody is in here without the callout's word, and nothing is in here but these four roads. `share` makes
  # the server itself write into each request who sends it.
  {subjects.AGENTS_ACCOUNT} {{
    imports: [
      {{ service: {{ account: MEMCUBE, subject: "{subjects.AGENT_ASKS}" }}, share: true }}
      {{ service: {{ account: MEMCUBE, subject: "{subjects.AGENT_INSIGHTS}" }},
        to: "{subjects.INSIGHTS}", share: true }}
      {{ service: {{ account: MEMCUBE, subject: "{_NEXT}.CHANGES.*" }}, to: "{subjects.AGENTS_NEXT}.*" }}
      {{ service: {{ account: MEMCUBE, subject: "{subjects.CHANGES_ACK}.>" }} }}
    ]
  }}

  SYS {{
    users: [ {{ user: {SYSTEM}, password: ${password_variable(SYSTEM)} }} ]
  }}
}}
system_account: SYS
authorization {{
  timeout: 3
  auth_callout {{
    account: AUTH
    issuer: ${ISSUER_VARIABLE}
    auth_users: [{", ".join(STATIC_USERS)}]
  }}
}}
"""


def _user(room: str, permissions: Permissions) -> str:
    publish = f"publish: {_list(permissions.publish)}" if permissions.publish else 'publish: { deny: ">" }'
    answers = ', allow_responses: { max: 1, expires: "1m" }' if permissions.answers else ""
    subscribe = _list((*permissions.subscribe, f"{inbox_of(room)}.>"))
    return f"""\
      {{ user: {room}, password: ${password_variable(room)}, permissions: {{
        {publish}
        subscribe: {subscribe}{answers} }} }}"""


def _list(allowed: Sequence[str]) -> str:
    return "[" + ", ".join(json.dumps(subject) for subject in allowed) + "]"
