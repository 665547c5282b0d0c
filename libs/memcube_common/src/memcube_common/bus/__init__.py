"""The bus: one connection to NATS, bells and asks on it, and one way to build a subscriber."""

from memcube_common.bus.connection import Bell, Bus
from memcube_common.bus.subscribers import Subscribers

__all__ = ["Bell", "Bus", "Subscribers"]
