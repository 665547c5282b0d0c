"""What a payload is while it arrives: its size, its hashes, its limit, and where its object may lie."""

from __future__ import annotations

import hashlib
import random
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcube_common.contracts.fields import MemoryType
from memcube_common.errors import Invalid, TooLarge
from memcube_common.objects import BLOCK, PAYLOAD_MAX, Arriving, new_key, object_path
from memcube_common.objects.domain import is_block

MEMORY = "01890000-0000-7000-8000-00000000abcd"


@given(st.lists(st.integers(min_value=0, max_value=BLOCK + 7), min_size=1, max_size=6), st.integers(0, 2**32))
def test_hashes_do_not_depend_on_how_the_bytes_are_cut(sizes: list[int], seed: int) -> None:
    whole = random.Random(seed).randbytes(sum(sizes) + 1)
    arriving = Arriving("PARAMETER")
    at = 0
    for size in [*sizes, 1]:
        arriving.take(whole[at : at + size])
        at += size
    arrived = arriving.arrived()
    assert arrived.size == len(whole)
    assert arrived.checksum == hashlib.sha256(whole).digest()
    blocks = [whole[at : at + BLOCK] for at in range(0, len(whole), BLOCK)]
    assert arrived.blocks == b"".join(hashlib.sha256(block).digest() for block in blocks)
    assert all(is_block(memoryview(block), number, arrived.blocks) for number, block in enumerate(blocks))


@pytest.mark.parametrize("type", ["PLAINTEXT", "ACTIVATION"])
def test_a_payload_of_just_the_limit_is_taken_and_one_byte_more_is_not(type: MemoryType) -> None:
    arriving = Arriving(type)
    arriving.take(b"x" * PAYLOAD_MAX[type])
    assert arriving.arrived().size == PAYLOAD_MAX[type]
    with pytest.raises(TooLarge, match=str(PAYLOAD_MAX[type])):
        arriving.take(b"x")


def test_a_parameter_may_have_50_mib_and_not_a_byte_more() -> None:
    arriving = Arriving("PARAMETER")
    for _ in range(50):
        arriving.take(bytes(BLOCK))
    assert len(arriving.arrived().blocks) == 50 * 32
    with pytest.raises(TooLarge, match="52428800"):
        arriving.take(b"x")


def test_nothing_is_no_payload() -> None:
    arriving = Arriving("ACTIVATION")
    arriving.take(b"")
    with pytest.raises(Invalid):
        arriving.arrived()


def test_a_block_that_differs_by_one_bit_or_has_another_place_is_not_the_block() -> None:
    arriving = Arriving("PARAMETER")
    first, second = bytes(BLOCK), b"\1" * 10
    arriving.take(first + second)
    blocks = arriving.arrived().blocks
    assert not is_block(memoryview(b"\1" + first[1:]), 0, blocks)
    assert not is_block(memoryview(second), 0, blocks)
    assert not is_block(memoryview(second), 2, blocks)


def test_an_objects_path_is_its_projects_own_and_never_twice_the_same() -> None:
    memory = uuid4()
    key = new_key(memory)
    assert object_path("demo", key) == f"demo/{key}"
    assert key.startswith(f"{memory}/")
    assert new_key(memory) != key


@pytest.mark.parametrize(
    ("project", "key"),
    [
        ("demo", "../other/secret"),
        ("..", f"{MEMORY}/{'0' * 32}"),
        ("demo", f"{MEMORY}/../{'0' * 32}"),
        ("demo", f"{MEMORY}/{'0' * 32}\n"),
        ("demo", f"{MEMORY}/{'0' * 32}/more"),
        ("demo", f"/{MEMORY}/{'0' * 32}"),
        ("Demo", f"{MEMORY}/{'0' * 32}"),
        ("demo", ""),
    ],
)
def test_no_key_leads_out_of_the_store(project: str, key: str) -> None:
    with pytest.raises(ValueError, match="not the key"):
        object_path(project, key)
