"""What the shipped search finds: labelled questions over real conversations, asked through the gateway, no LLM.

`memories.jsonl` of the data folder is loaded by `memcube insight import --wait`; each line of `questions.jsonl` is
asked as a caller would (text, `as_of` = its time, limit 200), one after another; ids are mapped back by `origin`.
Then all are asked again with only some stages of the ranking (`without`), from the words alone up to what is shipped.
`score.py`, which lies beside the data, judges the answers. The data is never part of this project; without it this
benchmark is skipped. Times are of the whole answer of 200 memories, read by the caller.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, get_args

import orjson
from pydantic import BaseModel

from benchmarks.figures import Figure, percentile
from benchmarks.stage import Options, Stage
from benchmarks.wire import Wire
from memcube_common.contracts.api import Stage as Stages
from memcube_common.provision import new_project_key

_MEASURES: Final = ("hit@10", "rec@10", "mrr", "ev@2k")
_SUITES: Final = ("locomo", "realtalk", "beam")
_LIMIT: Final = 200
_AT_ONCE: Final = 4

_WORDS: Final = ("words",)
_BOTH: Final = (*_WORDS, "length", "meaning")
_CONFIGURATIONS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("words, by their weights", "keyword", _WORDS),
    ("words and length", "keyword", (*_WORDS, "length")),
    ("meaning", "semantic", ("meaning",)),
    ("meaning, without common names", "semantic", ("meaning", "names")),
    ("words, length, meaning", "hybrid", _BOTH),
    ("… and names", "hybrid", (*_BOTH, "names")),
    ("… and label", "hybrid", (*_BOTH, "names", "label")),
    ("… and neighbours", "hybrid", (*_BOTH, "names", "label", "neighbours")),
    ("… and times", "hybrid", (*_BOTH, "names", "label", "neighbours", "times")),
    ("… and shape", "hybrid", (*_BOTH, "names", "label", "neighbours", "times", "shape")),
)
"""What is asked with: a name, a mode, and the stages that are left in. Shipped is all of them."""


class QuestionLine(BaseModel):
    """What may be used of a question."""

    id: str
    project: str
    question: str
    asked_at: str


class Skipped(RuntimeError):
    """This benchmark cannot be made here, and that is no fault."""


async def run(stage: Stage, options: Options) -> tuple[list[Figure], list[str]]:
    """Load, ask and score; see the module."""
    memories, asked = options.data / "memories.jsonl", options.data / "questions.jsonl"
    if not memories.is_file() or not asked.is_file():
        raise Skipped("there is no evaluation data; name its folder with --data")
    questions = [QuestionLine.model_validate_json(line) for line in asked.read_text().splitlines() if line.strip()]
    began = time.perf_counter()
    said = (await stage.memcube("insight", "import", str(memories.resolve()), "--wait")).strip().splitlines()[-1]
    loading = time.perf_counter() - began
    some = questions[:: max(1, round(1 / options.scale))]
    with tempfile.TemporaryDirectory() as folder:
        results = options.out or Path(folder) / "RESULTS.jsonl"
        keys = {
            name: await new_project_key(admin_dsn=stage.postgres, project=name)
            for name in sorted({question.project for question in some})
        }
        times, degraded = await _ask_all(stage, keys, some, results)
        scores = await _score(options.data, results, Path(folder) / "scores.json")
        stages: dict[str, dict[str, dict[str, float]]] = {}
        for name, mode, left in _CONFIGURATIONS if scores else ():
            await _ask_bare(stage, keys, some, Path(folder) / "stage.jsonl", mode=mode, left=left)
            stages[name] = await _score(options.data, Path(folder) / "stage.jsonl", Path(folder) / "scores.json")
    notes = [f"import: {said}", f"{len(times):,} questions asked, {degraded} degraded"]
    figures = [
        Figure(name=f"{name.removesuffix(' (all)')} {measure}", value=100 * averages[measure], unit="%")
        for name, averages in scores.items()
        for measure in _MEASURES
    ]
    figures += [
        Figure(name="one answer of 200, p50", value=percentile(times, 0.5), unit="ms"),
        Figure(name="one answer of 200, p95", value=percentile(times, 0.95), unit="ms"),
        Figure(name="import until all is searchable", value=loading, unit="s"),
    ]
    stages["shipped: all of it"] = scores
    notes += [_told(name, said) for name, said in stages.items() if said]
    return figures, notes if scores else [*notes, "score.py does not lie beside the data: not scored"]


def _told(name: str, scores: dict[str, dict[str, float]]) -> str:
    """One line of the table: each suite's hit@10 / rec@10 / mrr / ev@2k, in percent."""
    cells = [
        f"{suite.removesuffix(' (all)')} " + " / ".join(f"{100 * averages[measure]:.1f}" for measure in _MEASURES)
        for suite, averages in scores.items()
    ]
    return f"{name}: " + "; ".join(cells)


async def _ask_all(
    stage: Stage, keys: dict[str, str], questions: list[QuestionLine], results: Path
) -> tuple[list[float], int]:
    """Write one line per question to `results`; milliseconds of each answer, and how many were degraded."""
    times: list[float] = []
    degraded = 0
    with results.open("wb") as lines:
        for project, key in keys.items():
            wire = await Wire.open(stage.gateway, project=project, key=key)
            await wire.get("")
            for question in questions:
                if question.project != project:
                    continue
                body = orjson.dumps({"text": question.question, "as_of": question.asked_at, "limit": _LIMIT})
                started = time.perf_counter()
                answer = orjson.loads(await wire.post("memories/query", body))
                times.append((time.perf_counter() - started) * 1000)
                degraded += answer["degraded"] is not None
                lines.write(_line(question, answer, ms=round(times[-1], 2)))
            await wire.close()
    return times, degraded


async def _ask_bare(
    stage: Stage,
    keys: dict[str, str],
    questions: list[QuestionLine],
    results: Path,
    *,
    mode: str,
    left: tuple[str, ...],
) -> None:
    """Write one line per question, asked with only the stages in `left`, to `results`."""
    without = sorted(set(get_args(Stages)) - set(left))
    turn = asyncio.Semaphore(_AT_ONCE)

    async def ask_project(project: str, key: str) -> list[bytes]:
        async with turn:
            wire = await Wire.open(stage.gateway, project=project, key=key)
            lines = [await ask(question, wire) for question in questions if question.project == project]
            await wire.close()
            return lines

    async def ask(question: QuestionLine, wire: Wire) -> bytes:
        asked = {
            "text": question.question,
            "as_of": question.asked_at,
            "limit": _LIMIT,
            "mode": mode,
            "without": without,
            "fields": ["origin"],
        }
        return _line(question, orjson.loads(await wire.post("memories/query", orjson.dumps(asked))))

    answers = await asyncio.gather(*(ask_project(project, key) for project, key in keys.items()))
    await asyncio.to_thread(results.write_bytes, b"".join(line for lines in answers for line in lines))


def _line(question: QuestionLine, answer: dict[str, Any], **more: float) -> bytes:
    ranked = [memory["origin"].removeprefix("import:") for memory in answer["memories"]]
    return orjson.dumps({"question_id": question.id, "ranked_ids": ranked, **more}) + b"\n"


async def _score(data: Path, results: Path, told: Path) -> dict[str, dict[str, float]]:
    """The averages of each suite and of all, by the scorer beside the data; empty where there is none."""
    scorer = next((path for path in (data / "score.py", data.parent / "score.py") if path.is_file()), None)
    if scorer is None:
        return {}
    outcome = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(scorer), "--data", str(data), "--json", str(told), str(results)],
        capture_output=True,
        text=True,
        check=False,
    )
    if outcome.returncode not in {0, 3}:  # 3: some questions were not asked, as with a small scale
        raise RuntimeError(f"the scorer refuses the answers: {outcome.stderr.strip()[-500:]}")
    found = orjson.loads(await asyncio.to_thread(told.read_bytes))
    names = [f"{suite} (all)" for suite in _SUITES if f"{suite} (all)" in found]
    return {name: found[name] for name in [*names, "MACRO"]}
