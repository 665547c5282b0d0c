"""The streams of the bus, declared once, here; provisioning makes them and everybody else only names them."""

from __future__ import annotations

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from memcube_common.contracts import subjects

DAY = 86_400
DUPLICATE_WINDOW = 600
INSIGHT_MAX_BYTES = 256 * 1024


def streams(*, replicas: int = 1) -> tuple[StreamConfig, ...]:
    """Every stream: one replica on a single server, three in a cluster."""

    def stream(name: str, about: str, on: tuple[str, ...], days: int, **more: object) -> StreamConfig:
        return StreamConfig(
            name=name,
            description=about,
            subjects=list(on),
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_age=days * DAY,
            duplicate_window=DUPLICATE_WINDOW,
            num_replicas=replicas,
            allow_direct=True,
            **more,  # pyright: ignore[reportArgumentType]
        )

    return (
        stream("INSIGHTS", "What agents publish", (subjects.INSIGHTS,), 7,
               max_bytes=2 << 30, max_msg_size=INSIGHT_MAX_BYTES, allow_atomic=True),
        stream("CHANGES", "All facts, fed by the relay only", subjects.CHANGES, 30,
               max_bytes=2 << 30, allow_atomic=True),
        stream("ADVISORIES", "Deliveries that the server gave up", (
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"), 30,
               max_bytes=64 << 20),
    )  # fmt: skip
