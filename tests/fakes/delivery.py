"""A message of INSIGHTS as its handler sees it, delivered as often as the test says, and what it was answered."""

from __future__ import annotations

from datetime import UTC, datetime

from nats.aio.msg import Msg

from memcube_common.contracts.events import InsightSubmitted


class Delivery:
    """One message; `answer` is `ack`, `term` or `nak`, and `delays` what it was put off by."""

    headers = None

    def __init__(self, event: InsightSubmitted, sequence: int, *, subject: str) -> None:
        self.subject = subject
        self.data = event.model_dump_json().encode()
        self.sequence = sequence
        self.delivered = 1
        self.answer = ""
        self.delays: list[float] = []

    @property
    def metadata(self) -> Msg.Metadata:
        """Where it lies in the stream, and which delivery this is."""
        return Msg.Metadata(
            sequence=Msg.Metadata.SequencePair(consumer=1, stream=self.sequence),
            num_pending=0,
            num_delivered=self.delivered,
            timestamp=datetime.now(UTC),
            stream="INSIGHTS",
            consumer="c",
            domain=None,
        )

    async def ack(self) -> None:
        """It is kept."""
        self.answer = "ack"

    async def term(self) -> None:
        """It is set aside."""
        self.answer = "term"

    async def nak(self, delay: float) -> None:
        """It is to come again."""
        self.delays.append(delay)
        self.answer = "nak"
