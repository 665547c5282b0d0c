"""Agents on NATS, decided: what a role reaches, whose name an identity carries, which questions are believed."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.contracts import subjects
from memcube_common.ids import is_agent_name
from memcube_common.security import nkeys
from memcube_common.security.grants import Grant
from memcube_common.security.nkeys import AccountKey, new_account_seed, verified
from memcube_gateway.agents.domain import (
    Connected,
    Knock,
    Roads,
    admitted,
    asker,
    connected_from,
    inbox_prefix,
    read_knock,
    refused,
)

SEED = "SAAG2LY32CSJ45ZVZDQQGQXZWZMF3UL2YMYJ4T4IWETAYXVJPPR5IGO2NM"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KNOCK = Knock(server="NSERVER", user_key="UKEY", project="demo", agent="bot", secret="s")


def a_grant(role: Any = "AGENT", **other: Any) -> Grant:
    given: dict[str, Any] = {"project": "demo", "agent": "bot", "credential": "key:1", "expires_at": None, **other}
    return Grant(role=role, **given)


def claims_of(answer: bytes) -> dict[str, Any]:
    response = verified(answer.decode(), issued_by=nkeys.ACCOUNT)
    assert (response["sub"], response["aud"]) == ("UKEY", "NSERVER")
    return verified(response["nats"]["jwt"], issued_by=nkeys.ACCOUNT)


def admit(grant: Grant) -> dict[str, Any]:
    return claims_of(admitted(KNOCK, grant, roads=Roads(SEED), key=AccountKey(SEED), now=NOW))


def test_an_agent_reaches_its_own_subjects_and_nothing_else() -> None:
    claims = admit(a_grant())
    durable = Roads(SEED).durable("demo", "bot", restricted=False)
    connection = claims["name"].split("/")[4]

    assert claims["aud"] == subjects.AGENTS_ACCOUNT
    assert claims["nats"]["sub"] == {"allow": [f"{inbox_prefix('s')}.>"]}
    assert claims["nats"]["pub"] == {
        "allow": [
            "memcube.demo.ask.v1.query.bot",
            "memcube.demo.ask.v1.schedule.bot",
            "memcube.demo.insight.v1.submitted.bot",
            "memcube.demo.ask.v1.follow.bot",
            f"MC.API.CONSUMER.MSG.NEXT.CHANGES.{durable}",
            f"$JS.ACK.CHANGES.{durable}.>",
            f"MC.API.CONSUMER.MSG.NEXT.CHANGES.r_demo_bot_{connection}",
            f"$JS.ACK.CHANGES.r_demo_bot_{connection}.>",
        ]
    }


@pytest.mark.parametrize(("role", "questions"), [("VIEWER", ["query", "schedule"]), ("PUBLIC", ["query"])])
def test_who_only_reads_may_only_ask(role: str, questions: list[str]) -> None:
    allowed = [f"memcube.demo.ask.v1.{question}.bot" for question in questions]
    assert admit(a_grant(role))["nats"]["pub"] == {"allow": allowed}


@pytest.mark.parametrize("role", ["OWNER", "ADMIN", "MEMBER", "AGENT", "SERVICE"])
def test_a_role_reaches_the_restricted_consumer_or_the_open_one_never_both(role: str) -> None:
    allowed = " ".join(admit(a_grant(role))["nats"]["pub"]["allow"])
    roads = Roads(SEED)
    privileged = role in ("OWNER", "ADMIN", "SERVICE")
    assert (roads.durable("demo", "bot", restricted=True) in allowed) is privileged
    assert (roads.durable("demo", "bot", restricted=False) in allowed) is not privileged


def test_nobody_can_make_the_name_of_anothers_consumer() -> None:
    names = {
        Roads(seed).durable(project, agent, restricted=restricted)
        for seed in (SEED, new_account_seed())
        for project, agent in (("demo", "bot"), ("demo", "bo"), ("demo", "t_bot"), ("demo-bot", "x"))
        for restricted in (True, False)
    }
    assert len(names) == 16
    assert all(len(name.rsplit("_", 1)[1]) == 24 for name in names)


@pytest.mark.parametrize(
    ("ends", "seconds"), [(None, 3600), (timedelta(minutes=5), 300), (timedelta(hours=9), 3600), (timedelta(0), 0)]
)
def test_a_connection_ends_with_its_credential_and_within_the_hour(ends: timedelta | None, seconds: int) -> None:
    claims = admit(a_grant(expires_at=None if ends is None else NOW + ends))
    assert claims["exp"] == int(NOW.timestamp()) + seconds


@pytest.mark.parametrize("other", [{"project": "else"}, {"agent": "root"}])
def test_a_grant_for_somebody_else_lets_nobody_in(other: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="somebody else"):
        admit(a_grant(**other))


def test_500_hostile_names_cannot_alter_a_subject() -> None:
    pieces = (
        ".",
        "*",
        ">",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\x00",
        "..",
        ".*",
        ".>",
        "/",
        "\\",
        "é",
        "\u202e",
        "$JS",
        "a.b",
        "",
    )
    names = [
        f"{left}{core}{right}" for core in ("bot", "", "b*t") for left, right in itertools.product(pieces, repeat=2)
    ]
    hostile = [name for name in dict.fromkeys(names) if not is_agent_name(name)][:500]
    assert len(hostile) == 500
    for name in hostile:
        for grant in (a_grant(agent=name), a_grant(project=name)):
            knock = Knock("NSERVER", "UKEY", grant.project, grant.agent, "s")
            with pytest.raises(ValueError, match="name"):
                admitted(knock, grant, roads=Roads(SEED), key=AccountKey(SEED), now=NOW)
            assert subjects.asked_of(subjects.ask_subject(grant.project, "query", grant.agent)) is None


@given(
    st.sampled_from(["AGENT", "OWNER", "PUBLIC"]),
    st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)),
    st.text("abcdef0123456789:/-", max_size=40),
)
def test_an_identity_comes_back_as_it_was_written(role: Any, ends: datetime | None, credential: str) -> None:
    until = None if ends is None else ends.replace(microsecond=0, tzinfo=UTC)
    who = Connected(a_grant(role, expires_at=until, credential=credential), "c" * 24)
    assert connected_from(who.tag()) == who


@pytest.mark.parametrize("tag", [None, 7, "", "demo/bot/AGENT/0/c", "demo/bot/ROOT/0/c/k", "demo/bot/AGENT/x/c/k"])
def test_what_is_no_identity_is_none(tag: object) -> None:
    assert connected_from(tag) is None


def test_who_asks_is_read_of_the_servers_header_alone() -> None:
    tag = Connected(a_grant(), "c" * 24).tag()
    assert asker({"Nats-Request-Info": json.dumps({"acc": "AGENTS", "user": tag})}) == connected_from(tag)
    for headers in (
        None,
        {},
        {"Nats-Request-Info": ""},
        {"Nats-Request-Info": "[]"},
        {"Nats-Request-Info": json.dumps({"acc": "MEMCUBE", "user": tag})},
        {"Nats-Request-Info": json.dumps({"user": tag})},
        {"Nats-Request-Info": json.dumps({"acc": "AGENTS"})},
        {"nats-request-info": json.dumps({"acc": "AGENTS", "user": tag})},
    ):
        assert asker(headers) is None


def a_question(**changes: Any) -> bytes:
    """A server's question, signed by a server key of the test's own."""
    key = _ServerKey()
    nats = {"server_id": {"id": key.issuer}, "user_nkey": "UKEY", "connect_opts": {"user": "demo.bot", "pass": "s"}}
    claims = {"aud": "nats-authorization-request", "nats": {**nats, **changes.pop("nats", {})}, **changes}
    return key.sign(claims).encode()


class _ServerKey(AccountKey):
    """A key pair of the kind that servers have."""

    def __init__(self) -> None:
        super().__init__(new_account_seed())
        raw = nkeys.decoded(self.issuer)
        self.issuer = nkeys.encoded(bytes([nkeys.SERVER]) + raw[1:])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"user": "demo.bot", "pass": "s"}, ("demo", "bot", "s")),
        ({"auth_token": "demo.bot:s:t"}, ("demo", "bot", "s:t")),
        ({"user": "demo.bot.x", "pass": "s"}, ("demo", "bot.x", "s")),
        ({"user": "demo"}, ("demo", "", "")),
        ({}, ("", "", "")),
        (None, ("", "", "")),
    ],
)
def test_a_question_is_read(options: object, expected: tuple[str, str, str]) -> None:
    knock = read_knock(a_question(nats={"connect_opts": options}))
    assert (knock.project, knock.agent, knock.secret) == expected


def test_a_question_that_no_server_asked_is_refused() -> None:
    for question in (
        b"", b"a.b.c", b"\xff", AccountKey(SEED).sign({"aud": "nats-authorization-request"}).encode(),
        a_question(aud="other"), a_question(nats={"server_id": {"id": "NOTHER"}}), a_question(nats={"server_id": None}),
    ):  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011
            read_knock(question)


def test_no_is_said_aloud() -> None:
    answer = verified(refused(KNOCK, key=AccountKey(SEED), why="not signed in").decode(), issued_by=nkeys.ACCOUNT)
    assert answer["nats"] == {"type": "authorization_response", "version": 2, "error": "not signed in"}
