"""`memcube memory put` and `get`: files into memories and out again."""

import sys
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import typer

from memcube.payloads import LIMITS, MemoryType
from memcube_cli.console import say
from memcube_cli.house import House, fail, run, the_house

_TYPES: Final[dict[str, MemoryType]] = {
    "plaintext": "PLAINTEXT",
    "activation": "ACTIVATION",
    "parameter": "PARAMETER",
}
_PATIENCE: Final = 120.0  # seconds an upload or download is tried again


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    group = typer.Typer(help="Put files into memories and get them out.", no_args_is_help=True)
    group.command()(put)
    group.command()(get)
    app.add_typer(group, name="memory")


def put(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="What to keep.")],
    type: Annotated[
        str, typer.Option("--type", help="plaintext (64 KiB), activation (256 KiB) or parameter (50 MiB).")
    ] = "parameter",
    label: Annotated[str | None, typer.Option(help="A short name; the file's own if not given.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given more than once.")] = None,
    into: Annotated[
        UUID | None, typer.Option("--into", help="Replace the bytes of this memory instead of making one.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the memory as JSON.")] = False,
) -> None:
    """Make a memory of a file and print its id and checksum."""
    run(put_file(the_house(), file, type, label=label, tags=tag, into=into, project=project, as_json=as_json))


def get(
    id: Annotated[UUID, typer.Argument(help="The memory.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="The file to write; stdout if not given.")
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version of it.")] = None,
    project: Annotated[str | None, typer.Option(help="The project; the stack's own if not given.")] = None,
) -> None:
    """Write the bytes of a memory to a file, which is there as a whole or not at all."""
    run(get_file(the_house(), id, output, version=version, project=project))


async def put_file(
    house: House,
    file: Path,
    type: str,
    *,
    label: str | None = None,
    tags: list[str] | None = None,
    into: UUID | None = None,
    project: str | None = None,
    as_json: bool = False,
) -> int:
    """Upload `file`; returns the exit code."""
    kind = _TYPES.get(type.lower())
    if kind is None:
        fail(f"'{type}' is no type of memory: plaintext, activation or parameter.", code=2)
    size = file.stat().st_size  # noqa: ASYNC240 (nothing else runs in this command)
    if into is None and size > LIMITS[kind]:
        fail(f"{file.name} has {size:,} bytes; a memory of type {kind} may have {LIMITS[kind]:,}.")
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False), patience=_PATIENCE) as client:
        payloads = client.memories.payloads
        try:
            if into is None:
                memory = await payloads.upload(file, type=kind, label=label, tags=tags)
            else:
                memory = await payloads.replace(into, file, version=(await client.memories.get(into)).version)
        except OSError as error:
            fail(f"{file} cannot be read: {error.strerror}.")
    if as_json:
        say(memory.model_dump_json())
    else:
        say(f"{memory.id}  version {memory.version}  {memory.size_bytes} bytes  sha256 {memory.checksum}")
    return 0


async def get_file(
    house: House, id: UUID, output: Path | None, *, version: int | None = None, project: str | None = None
) -> int:
    """Download the bytes of a memory; returns the exit code."""
    chosen = project or house.project
    async with house.client(chosen, await house.key_of(chosen, create=False), patience=_PATIENCE) as client:
        payloads = client.memories.payloads
        if output is not None:
            try:
                size = await payloads.download_to(id, output, version=version)
            except OSError as error:
                fail(f"{output} cannot be written: {error.strerror}.")
            say(f"{output}  {size} bytes")
            return 0
        async for piece in payloads.stream(id, version=version):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0
