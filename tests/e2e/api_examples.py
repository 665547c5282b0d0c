"""The examples of a page: fenced blocks, run in order in one shell and one Python session, answers compared."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from uuid import uuid4

FENCE: Final = re.compile(r"^```(?P<language>\w*)(?: (?P<outcome>\w+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
ANYTHING: Final = "…"
# An answer that says that something went wrong ends the shell, wherever curl is called.
PREAMBLE: Final = 'set -eu\ncurl() { command curl --fail-with-body --max-time 40 "$@"; }\n'


@dataclass(frozen=True, slots=True)
class Example:
    """One fenced block: where it stands, in which language, and the answer that is shown under it, if any.

    refused: an answer of 400 and above is what it shows (`bash refused`).
    """

    line: int
    language: str
    text: str
    refused: bool = False
    shown: str | None = None


def examples_of(page: Path) -> Iterator[Example]:
    """The blocks that run, each with the JSON block that follows it."""
    text = page.read_text(encoding="utf-8")
    blocks = [
        Example(text.count("\n", 0, found.start()) + 1, found["language"], found["text"], found["outcome"] == "refused")
        for found in FENCE.finditer(text)
    ]
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language != "json":
            shown = following.text if following is not None and following.language == "json" else None
            yield Example(block.line, block.language, block.text, block.refused, shown)


class Shell:
    """One bash that runs blocks one after the other, so that what a block exports is there for the next."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors

    @classmethod
    async def open(cls, environment: Mapping[str, str], folder: Path) -> Shell:
        """A bash in `folder`. It ends by itself when a block fails."""
        errors = folder / "stderr"
        with errors.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                "bash",
                env=dict(environment),
                cwd=folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=said,
                limit=2**22,
            )
        shell = cls(process, errors)
        await shell.run(PREAMBLE)
        return shell

    async def run(self, text: str) -> str:
        """What a block prints. Raises AssertionError where one of its commands fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        end = uuid4().hex
        self._process.stdin.write(f"{text}\nprintf '\\n%s\\n' {end}\n".encode())
        await self._process.stdin.drain()
        said: list[str] = []
        async with asyncio.timeout(60):
            async for line in self._process.stdout:
                if line.decode().strip() == end:
                    return "".join(said)
                said.append(line.decode())
        raise AssertionError(f"{text}\nfailed: {''.join(said)}\n{self._errors.read_text()[-2000:]}")

    async def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.returncode is None:
            await self._process.wait()


async def run_python(example: Example, names: dict[str, Any], page: Path) -> None:
    """Run a block in the names that earlier blocks left; it may await."""
    code = compile(
        "\n" * example.line + example.text, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    outcome = eval(code, names)
    if inspect.isawaitable(outcome):
        await outcome


def misfits(shown: object, answered: object, at: str = "answer") -> list[str]:
    """Where what is shown is not what was answered: every name that is shown is there, of the same kind of value.

    Text is as it is shown, with anything where `…` stands.
    """
    if shown == ANYTHING:
        return []
    if isinstance(shown, str) and isinstance(answered, str):
        wanted = ".*".join(re.escape(part) for part in shown.split(ANYTHING))
        is_told = re.fullmatch(wanted, answered, re.DOTALL) is not None
        return [] if is_told else [f"{at}: {shown!r} is shown, {answered!r} was answered"]
    match shown:
        case dict():
            if not isinstance(answered, dict):
                return [f"{at}: no object"]
            there = cast("dict[str, object]", answered)
            wrong: list[str] = []
            for name, value in cast("dict[str, object]", shown).items():
                wrong += misfits(value, there[name], f"{at}.{name}") if name in there else [f"{at}.{name} is missing"]
            return wrong
        case list():
            ours, theirs = cast("list[object]", shown), cast("list[object]", answered)
            if not isinstance(answered, list) or (len(ours) > 0) != (len(theirs) > 0):
                return [f"{at}: no such list"]
            pairs = zip(ours, theirs, strict=False)
            return [fault for n, (one, other) in enumerate(pairs) for fault in misfits(one, other, f"{at}[{n}]")]
        case bool() | int() | float() | None:
            alike = isinstance(answered, bool) == isinstance(shown, bool) and (
                (shown is None) == (answered is None) and isinstance(answered, int | float | None)
            )
            return [] if alike else [f"{at}: {shown!r} is shown, {answered!r} was answered"]
        case _:
            return [f"{at}: {shown!r} is shown, {answered!r} was answered"]


def shape_faults(example: Example, printed: str) -> list[str]:
    """Where the JSON under a block is not what the block printed last."""
    if example.shown is None:
        return []
    decoder, answered, rest = json.JSONDecoder(), None, printed.strip()
    while rest:
        answered, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()
    return misfits(json.loads(example.shown), answered)
