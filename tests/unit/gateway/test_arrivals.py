"""Where a request comes from: the peer, or what a trusted proxy says of it; nobody else is believed."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import pytest
from starlette.requests import Request

from memcube_gateway.arrivals import Arrival, Entrance, arrival_of, read_address, read_networks
from memcube_gateway.limits import Limits
from memcube_gateway.settings import GatewaySettings

PROXIES = "10.0.0.0/8, 2001:db8:ffff::/48"


def receive(
    peer: str | None, *forwarded: str, proxies: str = PROXIES, proto: str | None = None, scheme: str = "http"
) -> Arrival:
    heads = [(b"x-forwarded-for", entry.encode("latin-1")) for entry in forwarded]
    if proto is not None:
        heads.append((b"x-forwarded-proto", proto.encode()))
    scope: dict[str, Any] = {"headers": heads, "client": (peer, 1) if peer else None, "scheme": scheme}
    arrival = Entrance(Limits(GatewaySettings.model_construct()), read_networks(proxies)).receive(scope)
    assert arrival_of(scope) is arrival
    return arrival


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", (), "203.0.113.7"),
        ("203.0.113.7", ("198.51.100.1",), "203.0.113.7"),  # not a proxy of ours: made up
        ("10.1.2.3", (), "10.1.2.3"),
        ("10.1.2.3", ("198.51.100.1",), "198.51.100.1"),
        ("10.1.2.3", ("6.6.6.6, 198.51.100.1",), "198.51.100.1"),  # what stands left of it its sender made up
        ("10.1.2.3", ("198.51.100.1, 10.9.9.9",), "198.51.100.1"),  # two proxies of ours
        ("10.1.2.3", ("6.6.6.6", "198.51.100.1, 10.9.9.9"), "198.51.100.1"),  # two headers are one list
        ("10.1.2.3", ("10.4.4.4, 10.9.9.9",), "10.4.4.4"),  # ours all the way
        ("10.1.2.3", ("198.51.100.1, nonsense",), "10.1.2.3"),
        ("10.1.2.3", ("",), "10.1.2.3"),
        ("10.1.2.3", ("6.6.6.6, 198.51.100.1:5555",), "198.51.100.1"),
        ("10.1.2.3", ("[2001:db8:1::1]:443",), "2001:db8:1::1"),
        ("::ffff:10.1.2.3", ("198.51.100.1",), "198.51.100.1"),
        ("2001:db8:ffff::1", ("198.51.100.1",), "198.51.100.1"),
        ("10.1.2.3", ("\xff\xfe",), "10.1.2.3"),
        (None, ("198.51.100.1",), "unknown"),
        ("not an address", ("198.51.100.1",), "unknown"),
    ],
)
def test_the_address_is_the_rightmost_that_is_not_ours(
    peer: str | None, forwarded: tuple[str, ...], address: str
) -> None:
    assert receive(peer, *forwarded).address == address


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert receive("127.0.0.1", "198.51.100.1", proxies="", proto="https").address == "127.0.0.1"


def test_a_chain_without_end_is_not_followed_to_it() -> None:
    arrival = receive("10.0.0.1", "6.6.6.6, " + ", ".join(["10.0.0.2"] * 100_000))

    assert arrival.address == "10.0.0.2"


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_an_ipv6_customer_is_counted_by_the_64(peer: str, network: str) -> None:
    assert receive(peer).network == network


@pytest.mark.parametrize(
    ("peer", "proto", "https"),
    [
        ("203.0.113.7", "https", False),
        ("10.1.2.3", "https", True),
        ("10.1.2.3", "https, http", False),
        ("10.1.2.3", "HTTPS", True),
        ("10.1.2.3", None, False),
    ],
)
def test_https_is_believed_of_trusted_proxies_only(peer: str, proto: str | None, https: bool) -> None:
    assert receive(peer, proto=proto).https is https


@pytest.mark.parametrize("text", ["", "1.2.3", "::1::", "1.2.3.4.5", "[::1", "2001:db8::/64", "localhost", "01.2.3.4"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert read_address(text) is None or text == "[::1"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "proxy.example.com", "*"])
def test_a_network_that_is_none_refuses_to_start(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_networks(text)


def test_the_credential_is_kept_as_a_hash_only() -> None:
    scope: dict[str, Any] = {
        "headers": [(b"authorization", b"Bearer secret")], "client": ("192.0.2.1", 1), "scheme": "http"
    }  # fmt: skip
    arrival = Entrance(Limits(GatewaySettings.model_construct()), ()).receive(scope)

    assert len(cast(bytes, arrival.credential)) == 32
    assert b"secret" not in repr(arrival).encode()


def test_of_two_credentials_the_first_counts_as_it_does_at_the_door() -> None:
    heads = [(b"authorization", b"Bearer guess"), (b"authorization", b"Bearer good")]
    scope: dict[str, Any] = {"headers": heads, "client": ("192.0.2.1", 1), "scheme": "http"}
    arrival = Entrance(Limits(GatewaySettings.model_construct()), ()).receive(scope)

    assert Request({**scope, "type": "http"}).headers["authorization"] == "Bearer guess"
    assert arrival.credential == hashlib.sha256(b"Bearer guess").digest()
