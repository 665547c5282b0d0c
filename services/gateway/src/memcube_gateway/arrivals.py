"""Where a request comes from: the address that limits and the audit trail know, and whether it came by https."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from starlette.types import Scope

    from memcube_gateway.limits import Limits, Reading

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN: Final = "unknown"
_ARRIVAL: Final = "memcube.arrival"
_HOPS_MAX: Final = 32


@dataclass(slots=True)
class Arrival:
    """One request on its way in. address: a printable IP address, or 'unknown' where the peer has none (a socket file).

    network: what its limits are counted for, the address itself or the /64 of an IPv6 one, since that is what one
    customer is given. credential: SHA-256 of its Authorization header, or else of its `apikey`. readings: what limits
    said, for its answer.
    """

    limits: Limits
    address: str
    network: str
    https: bool
    origin: bytes | None
    credential: bytes | None
    admitted: bool = False
    readings: list[Reading] = field(default_factory=list["Reading"])

    def admit(self, *, credential: str, project: str) -> None:
        """The door has found whose request this is: `credential` names the key or session, inside `project`.

        Raises TooManyRequests.
        """
        self.limits.admit(self, credential=credential, project=project)


class Entrance:
    """Reads requests' heads; `proxies` are the peers that are believed when they say on whose behalf they come."""

    def __init__(self, limits: Limits, proxies: Sequence[Network]) -> None:
        self._limits = limits
        self._proxies = tuple(proxies)

    def receive(self, scope: Scope) -> Arrival:
        """The arrival of a request, kept in its scope for `arrival_of`.

        The address is the socket's peer, unless that is a trusted proxy: then it is the right-most entry of
        X-Forwarded-For that is no trusted proxy itself. What stands left of it, whoever wrote it may have made up.
        """
        forwarded: list[bytes] = []
        proto = origin = authorization = apikey = None
        for name, value in scope["headers"]:
            match name:
                case b"x-forwarded-for":
                    forwarded.append(value)
                case b"x-forwarded-proto":
                    proto = value
                case b"authorization" if authorization is None:  # the first, as it is the one the door reads
                    authorization = value
                case b"apikey" if scope["path"].startswith("/functions/"):
                    apikey = value
                case b"origin":
                    origin = value
                case _:
                    pass
        shown = apikey if authorization is None else authorization
        client = cast("tuple[str, int] | None", scope.get("client"))
        address = read_address(client[0]) if client else None
        https = scope["scheme"] == "https"
        if address is not None and self._trusts(address):
            https = https or (proto is not None and proto.rpartition(b",")[2].strip().lower() == b"https")
            address = self._behind(address, b",".join(forwarded))
        arrival = Arrival(
            limits=self._limits,
            address=UNKNOWN if address is None else str(address),
            network=UNKNOWN if address is None else _network(address),
            https=https,
            origin=origin,
            credential=None if shown is None else hashlib.sha256(shown).digest(),
        )
        scope[_ARRIVAL] = arrival
        return arrival

    def _behind(self, proxy: Address, forwarded: bytes) -> Address:
        """Who asked the chain of trusted proxies; its last one where what it was told is no address."""
        found = proxy
        for entry in reversed(forwarded.rsplit(b",", _HOPS_MAX)[-_HOPS_MAX:]):
            address = read_address(entry.decode("latin-1").strip())
            if address is None:
                break
            found = address
            if not self._trusts(address):
                break
        return found

    def _trusts(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._proxies)


def arrival_of(scope: Scope) -> Arrival:
    """The arrival that the envelope put into a request's scope."""
    return cast("Arrival", cast("dict[str, Any]", scope)[_ARRIVAL])


def read_address(text: str) -> Address | None:
    """An IP address as proxies write it: '203.0.113.7', '203.0.113.7:4711', '[2001:db8::7]:4711'; None for other text.

    An IPv4 address inside an IPv6 one (::ffff:203.0.113.7) is that IPv4 address; a zone ('%eth0') is dropped.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def read_networks(text: str) -> tuple[Network, ...]:
    """Comma-separated CIDRs. Raises ValueError, naming the one that is none."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _network(address: Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
