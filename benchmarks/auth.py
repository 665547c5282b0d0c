"""What identity costs: a password's hash, eight sign-ins at once, an access token's verification.

The hash is argon2id with the parameters in force, in this process, nothing else at work; its raw limit is OWASP's least
parameters (19 MiB, 2 passes, 1 lane). Eight sign-ins come at once to a running gateway, by eight accounts of the
benchmark's own. A token is verified whole, from its text to its claims; its raw limit is the one Ed25519 verification
inside it (libsodium).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from uuid import uuid4

import httpx
from nacl.signing import SigningKey

from benchmarks.figures import Figure, least, most
from benchmarks.stage import Options, Stage
from memcube_common.ids import new_id
from memcube_common.provision import first_owner
from memcube_common.security import passwords
from memcube_common.security.tokens import AccessTokens, TokenKeys, new_token_key

PASSWORD = "correct horse battery staple"


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Measure hashing, signing in and verifying; see the module."""
    tokens = AccessTokens(TokenKeys(new_token_key()), issuer="memcube")
    token = tokens.issue(account=new_id(), session=new_id())
    signer = SigningKey.generate()
    signed = signer.sign(b"x" * 300)
    times = options.sized(2_000, at_least=100)
    verified = _microseconds(lambda: tokens.verify(token), times)
    raw = _microseconds(lambda: signer.verify_key.verify(signed), times)
    hashing = await _hashing(passwords.Passwords())
    leanest = await _hashing(passwords.Passwords(memory_kib=19 * 1024, passes=2))
    took = await _sign_ins(stage)
    owasp = "argon2id with 19 MiB and 2 passes"
    figures = [
        Figure(
            name="one password hashed", value=hashing, unit="ms", limit=leanest, limit_of=owasp,
            budgets=(least("issue", 50), most("issue", 250)),
        ),
        Figure(name="eight sign-ins at once, the slowest", value=took * 1000, unit="ms", limit=8 * hashing,
               limit_of="eight hashes one after the other"),
        Figure(
            name="an access token verified", value=verified, unit="µs", limit=raw,
            limit_of="one Ed25519 verification by libsodium", budgets=(most("issue", 100),),
        ),
    ]  # fmt: skip
    notes = [
        f"never more than {passwords.AT_ONCE} passwords are hashed at once in a process, and at most "
        f"{passwords.WAITING_MAX} wait; tests/unit/security/test_passwords.py counts them",
    ]
    return figures, notes


def _microseconds(work: Callable[[], object], times: int) -> float:
    """The median of ten rounds, in microseconds for one."""
    rounds: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(max(1, times // 10)):
            work()
        rounds.append((time.perf_counter() - began) / max(1, times // 10) * 1e6)
    return statistics.median(rounds)


async def _hashing(hasher: passwords.Passwords) -> float:
    """The median of seven hashes, in milliseconds."""
    try:
        spent: list[float] = []
        for _ in range(7):
            began = time.perf_counter()
            await hasher.hash(PASSWORD)
            spent.append((time.perf_counter() - began) * 1000)
        return statistics.median(spent)
    finally:
        hasher.close()


async def _sign_ins(stage: Stage) -> float:
    """Seconds until the last of eight sign-ins at once is answered."""
    hasher = passwords.Passwords()
    hashed = await hasher.hash(PASSWORD)
    hasher.close()
    emails: list[str] = []
    for number in range(8):
        email = f"{uuid4().hex}@example.org"
        made = await first_owner(
            admin_dsn=stage.postgres,
            project=f"auth-{number}-{uuid4().hex[:8]}",
            email=email,
            name="bench",
            handle="owner",
            password=hashed,
        )
        assert made
        emails.append(email)
    async with httpx.AsyncClient(base_url=stage.gateway, timeout=30) as client:

        async def sign_in(email: str) -> None:
            answer = await client.post("/v1/auth/token", json={"email": email, "password": PASSWORD})
            answer.raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(sign_in(email) for email in emails))
        return time.perf_counter() - began
