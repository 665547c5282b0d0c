"""The bus: one connection to NATS, bells and asks on it, and one way to build a subscriber."""

from typing import TYPE_CHECKING, Any

from memcube_common.bus.connection import Bell, Bus

if TYPE_CHECKING:
    from memcube_common.bus.subscribers import Subscribers

__all__ = ["Bell", "Bus", "Subscribers"]


def __getattr__(name: str) -> Any:
    """`Subscribers` where it is asked for: FastStream takes a third of a second to import, and few need it."""
    if name == "Subscribers":
        from memcube_common.bus.subscribers import Subscribers

        return Subscribers
    raise AttributeError(name)
