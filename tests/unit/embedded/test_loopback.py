"""Ports are chosen so that no two servers get the same and a server keeps its own."""

import socket
from collections.abc import Iterator

import pytest

from memcube_common.embedded.loopback import free_port, http_status, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_preferred_port_is_kept_while_it_is_free() -> None:
    port = free_port()
    assert 20_000 <= port <= 29_999
    assert free_port(port) == port


def test_a_taken_port_is_not_chosen(taken: int) -> None:
    assert not is_free(taken)
    assert free_port(taken) != taken


def test_a_promised_port_is_not_chosen() -> None:
    port = free_port()
    assert free_port(port, besides=(port,)) != port


async def test_a_server_that_says_nothing_has_no_status(taken: int) -> None:
    assert await http_status(taken, "/readyz", within=0.05) is None
    assert await http_status(free_port(), "/readyz", within=1.0) is None
