"""Payloads on their way in: bounded while they stream; small ones for the row, others in the store before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request

from memcube_common.contracts.book import BinaryCreation
from memcube_common.contracts.fields import Content, Label, MemoryType
from memcube_common.errors import FieldError, Invalid, Malformed, MemCubeError, NotAllowed, TooLarge
from memcube_common.ids import new_id
from memcube_common.memories.domain import Payload, pack, pack_bytes
from memcube_common.objects import PAYLOAD_MAX, ROW_MAX, Arriving, Incoming, new_key, object_path
from memcube_common.objects.domain import too_large
from memcube_common.objects.ledger import abandon_object, announce_object
from memcube_common.security.principal import Principal
from memcube_gateway.payloads.form import Form, PartBegins, PartEnds, boundary_of, refuse_encoding
from memcube_gateway.routes.bodies import parse
from memcube_gateway.routes.door import Visit
from memcube_gateway.routes.problems import TooSlow, field_errors

MEMORY_PART_MAX: Final = 256 * 1024
"""Most bytes of the part that describes the memory."""

FORM_MAX: Final = 64 * 1024
"""Most bytes of a form beside its two parts."""

HEARD_OUT: Final = 16 * 1024 * 1024
"""Bytes of a body too large that are still listened to, since who is cut off while sending reads no answer."""

_ABANDON_WITHIN: Final = 2.0
_CREATION: Final = TypeAdapter(BinaryCreation)
_CONTENT: Final = TypeAdapter(Content)
_LABEL: Final = TypeAdapter(Label)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A payload that is there as a whole. text: of PLAINTEXT, what it says; empty for bytes."""

    payload: Payload
    text: str


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A form that is there as a whole. intent: what an Idempotency-Key stands for: the memory part and the checksum."""

    given: BinaryCreation
    received: Received
    intent: bytes


class Reception:
    """Takes the bytes of one payload; beyond 64 KiB they go to the store, announced to Postgres before the first."""

    def __init__(self, visit: Visit, memory_id: UUID, type: MemoryType, expected: int) -> None:
        self._visit = visit
        self._memory_id = memory_id
        self._expected = min(expected, PAYLOAD_MAX[type])
        self._arriving = Arriving(type)
        self._first: list[bytes] = []
        self._stack = contextlib.AsyncExitStack()
        self._incoming: Incoming | None = None
        self._key: str | None = None
        self._in_doubt = False

    async def __aenter__(self) -> Reception:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give the object to the sweep unless a memory keeps it by now.

        One whose arrival was cut off in the middle is left to the sweep of what does not arrive: the store may still
        be at it, and what is deleted before it is there would stay.
        """
        await self.drop()

    async def drop(self) -> None:
        """Let go of what came."""
        self._first.clear()
        key, self._key = self._key, None
        try:
            await self._stack.aclose()
        finally:
            if key is not None and not self._in_doubt:
                await self._abandon(key)

    async def take(self, chunk: bytes) -> None:
        """Take the next bytes. Raises TooLarge, NotAllowed, TryAgain."""
        self._arriving.take(chunk)
        if self._incoming is not None:
            await self._incoming.write(chunk)
            return
        self._first.append(chunk)
        if self._arriving.size > ROW_MAX:
            self._incoming = await self._announced()
            first, self._first = self._first, []
            for one in first:
                await self._incoming.write(one)

    async def received(self) -> Received:
        """The payload, once all of it came; a large one is in the store by now. Raises Invalid, TryAgain."""
        arrived = self._arriving.arrived()
        if self._incoming is not None and self._key is not None:
            self._in_doubt = True
            await self._incoming.keep()
            self._in_doubt = False
            return Received(
                Payload(
                    storage_mode="COLD",
                    size_bytes=arrived.size,
                    token_count=0,
                    checksum=arrived.checksum,
                    object_key=self._key,
                    blocks=arrived.blocks,
                ),
                "",
            )
        raw = b"".join(self._first)
        if self._arriving.type != "PLAINTEXT":
            return Received(pack_bytes(raw), "")
        text = text_of(raw)
        return Received(pack(text), text)

    async def _announced(self) -> Incoming:
        key = new_key(self._memory_id)
        visit = self._visit
        async with visit.transaction() as tx:
            await announce_object(tx, project=visit.project, key=key, size=self._expected)
        self._key = key
        path = object_path(visit.project, key)
        incoming = visit.room.objects.receive(path, expected=self._expected)
        return await self._stack.enter_async_context(incoming)

    async def _abandon(self, key: str) -> None:
        """By the room itself: whoever brings objects may not send them away."""
        visit = self._visit
        worker = Principal.worker("gateway", visit.project)
        try:
            async with visit.room.db.transaction(worker, deadline=_ABANDON_WITHIN) as tx:
                known = await abandon_object(tx, project=visit.project, key=key)
            if not known:
                await visit.room.objects.delete(object_path(visit.project, key))
        except MemCubeError:
            _log.info("object_left_to_the_sweep")


@contextlib.asynccontextmanager
async def uploaded(
    request: Request, visit: Visit, permit: Callable[[BinaryCreation], None]
) -> AsyncGenerator[Uploaded]:
    """The memory and the payload that a form brings: part `memory` (JSON), then part `payload` (bytes).

    permit: asked before a byte of the payload is taken; raises what the caller is to be answered. The memory is to be
    kept inside the block: what is not kept by its end is taken away again. Raises Malformed, Invalid, TooLarge,
    TooSlow, NotJson, NotAllowed, TryAgain.
    """
    form = Form(boundary_of(request))
    declared = _declared(request)
    if declared is not None and declared > max(PAYLOAD_MAX.values()) + MEMORY_PART_MAX + FORM_MAX + HEARD_OUT:
        raise too_large("PARAMETER")
    parts = _Parts(visit, permit, declared)
    async with parts:
        async with contextlib.aclosing(arriving(request, visit)) as body:
            try:
                async for data in body:
                    for event in form.feed(data):
                        await parts.on(event)
            except TooLarge:
                await parts.drop()
                await _hear_out(body)
                raise
        if not form.whole:
            raise Malformed("The form ended before its last boundary.")
        upload = parts.uploaded()
        await still_let_in(visit)
        yield upload


async def arriving(request: Request, visit: Visit) -> AsyncGenerator[bytes]:
    """The body as it comes. Raises TooSlow where nothing comes for a while or it takes too long, Malformed if cut."""
    settings = visit.room.settings
    clock = asyncio.get_running_loop().time
    over = clock() + settings.upload_within
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(min(settings.upload_stall, over - clock())):
                data = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TooSlow from None
        except ClientDisconnect as error:
            raise Malformed("The body ended too early.") from error
        if data:
            yield data


def reception_of(request: Request, visit: Visit, memory_id: UUID, type: MemoryType) -> Reception:
    """What takes a body that is nothing but a payload; to be entered.

    Raises TooLarge for one that says it is, NotJson for one that is encoded.
    """
    refuse_encoding(request)
    limit = PAYLOAD_MAX[type]
    declared = _declared(request)
    if declared is not None and declared > limit + HEARD_OUT:
        raise too_large(type)
    return Reception(visit, memory_id, type, limit if declared is None else declared)


async def take_all(request: Request, visit: Visit, reception: Reception) -> Received:
    """All of the body into `reception`. Raises TooLarge, TooSlow, Malformed, Invalid, NotAllowed, TryAgain."""
    async with contextlib.aclosing(arriving(request, visit)) as body:
        try:
            async for data in body:
                await reception.take(data)
        except TooLarge:
            await reception.drop()
            await _hear_out(body)
            raise
    received = await reception.received()
    await still_let_in(visit)
    return received


def text_of(raw: bytes) -> str:
    """Bytes as the content of a PLAINTEXT memory. Raises Invalid where they are none."""
    try:
        return _CONTENT.validate_python(raw.decode())
    except UnicodeDecodeError:
        raise Invalid(errors=[FieldError("payload", "must be text in UTF-8")]) from None
    except ValidationError as error:
        faults = field_errors(error.errors(include_url=False, include_context=False, include_input=False))
        raise Invalid(errors=[FieldError("payload", fault.message) for fault in faults]) from None


async def still_let_in(visit: Visit) -> None:
    """A long upload may outlive its credential or its role. Raises NotSignedIn, NotFound, NotAllowed, TryAgain."""
    caller = await visit.room.door.admit(visit.project, visit.authorization, visit.patience, visit.address)
    if caller.role != visit.caller.role:
        raise NotAllowed("Your role was changed while the payload was on its way.")


class _Parts:
    """The two parts of a form, in their order."""

    def __init__(self, visit: Visit, permit: Callable[[BinaryCreation], None], declared: int | None) -> None:
        self._visit = visit
        self._permit = permit
        self._declared = declared
        self._part: str | None = None
        self._json = bytearray()
        self._given: BinaryCreation | None = None
        self._stack = contextlib.AsyncExitStack()
        self._reception: Reception | None = None
        self._received: Received | None = None

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        await self.drop()

    async def drop(self) -> None:
        """Let go of what came."""
        await self._stack.aclose()

    async def on(self, event: PartBegins | bytes | PartEnds) -> None:
        """Take what the form brings next."""
        match event:
            case PartBegins():
                await self._begin(event)
            case PartEnds():
                await self._end()
            case bytes() if self._part == "payload" and self._reception is not None:
                await self._reception.take(event)
            case bytes():
                self._json += event
                if len(self._json) > MEMORY_PART_MAX:
                    raise TooLarge(f"The part 'memory' may be at most {MEMORY_PART_MAX} bytes.")

    def uploaded(self) -> Uploaded:
        """Both parts. Raises Invalid for one that did not come."""
        if self._given is None:
            raise _missing("memory")
        if self._received is None:
            raise _missing("payload")
        received = self._received
        return Uploaded(self._given, received, bytes(self._json) + received.payload.checksum)

    async def _begin(self, part: PartBegins) -> None:
        self._part = part.name
        if part.name == "memory" and self._given is None:
            return
        if part.name == "payload" and self._given is not None and self._reception is None:
            given = self._given = _named(self._given, part.filename)
            assert given.id is not None
            expected = PAYLOAD_MAX[given.type] if self._declared is None else self._declared
            reception = Reception(self._visit, given.id, given.type, expected)
            self._reception = await self._stack.enter_async_context(reception)
            return
        if part.name == "payload" and self._given is None:
            raise Invalid(errors=[FieldError("memory", "must come before the payload")])
        known = part.name in ("memory", "payload")
        why = "comes once" if known else "is no part of this form: 'memory', then 'payload'"
        raise Invalid(errors=[FieldError(part.name[:64] if part.name.isprintable() else "form", why)])

    async def _end(self) -> None:
        if self._part == "memory":
            given = parse(_CREATION, bytes(self._json))
            self._permit(given)
            self._given = given if given.id is not None else given.model_copy(update={"id": new_id()})
        elif self._reception is not None:
            self._received = await self._reception.received()
        self._part = None


def _named(given: BinaryCreation, filename: str) -> BinaryCreation:
    """Bytes without a label are called what their file was called, if that is fit for a label."""
    if given.label is not None or given.type == "PLAINTEXT":
        return given
    name = filename.replace("\\", "/").rpartition("/")[2]
    try:
        label = _LABEL.validate_python(name)
    except ValidationError:
        label = given.type.lower()
    return given.model_copy(update={"label": label})


def _missing(part: str) -> Invalid:
    return Invalid(errors=[FieldError(part, "is missing from the form")])


def _declared(request: Request) -> int | None:
    said = request.headers.get("content-length", "")
    return int(said[:20]) if said.isdecimal() else None


async def _hear_out(body: AsyncGenerator[bytes]) -> None:
    heard = 0
    with contextlib.suppress(MemCubeError):
        async for data in body:
            heard += len(data)
            if heard > HEARD_OUT:
                return
