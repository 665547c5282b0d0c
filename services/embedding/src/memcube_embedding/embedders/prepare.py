"""Makes the local model's files once: from the package's fp32 weights to an int8 graph, checked, locked, atomic.

Run as `python -m memcube_embedding.embedders.prepare MODELS_DIR`: converting peaks at several hundred MB, which a
process of its own gives back.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from memcube_embedding.embedders.minilm import (
    MODEL_NAME,
    PACKAGE,
    RECIPE,
    TOKENIZER,
    TOKENIZER_SHA256,
    WEIGHTS,
    WEIGHTS_SHA256,
)

_GRAPH = "model.onnx"
_MANIFEST = "manifest.json"
_LOCK = "prepare.lock"
_MAKING = ".making-"


class ModelNotPrepared(RuntimeError):
    """The local model's files cannot be made; the message says what is missing or damaged."""


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """The checked files of the local model."""

    graph: Path
    tokenizer: Path


class _Manifest(BaseModel):
    """What a finished preparation left behind, by SHA-256; written last, so it stands for all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    weights: str
    graph: str
    tokenizer: str


def find_prepared(models_dir: Path) -> PreparedModel | None:
    """The files of an earlier preparation if they are whole and of this recipe, else None."""
    folder = models_dir / MODEL_NAME
    prepared = PreparedModel(graph=folder / _GRAPH, tokenizer=folder / TOKENIZER)
    try:
        manifest = _Manifest.model_validate_json((folder / _MANIFEST).read_bytes())
        found = _Manifest(
            recipe=RECIPE,
            weights=WEIGHTS_SHA256,
            graph=sha256_of(prepared.graph),
            tokenizer=sha256_of(prepared.tokenizer),
        )
    except (OSError, ValidationError):
        return None
    return prepared if manifest == found else None


def prepare(models_dir: Path) -> PreparedModel:
    """The model's files, made now unless they are there and whole. Several processes may ask at once.

    Raises `ModelNotPrepared` when the package is missing or its files are not the ones this code was written for,
    and `OSError` when the folder cannot be written.
    """
    folder = models_dir / MODEL_NAME
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / _LOCK):
        for abandoned in folder.glob(f"{_MAKING}*"):  # its maker was killed, or it would hold the lock
            shutil.rmtree(abandoned)
        return find_prepared(models_dir) or _make(folder)


def package_file(name: str, sha256: str) -> Path:
    """The package's file of that name, its content checked; raises `ModelNotPrepared`."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise ModelNotPrepared(f"the package {PACKAGE} with the model's weights is not installed") from None
    for file in files:
        path = Path(str(file.locate()))
        if file.name == name and path.is_file():
            if sha256_of(path) != sha256:
                raise ModelNotPrepared(f"{name} of the package {PACKAGE} is damaged or another version")
            return path
    raise ModelNotPrepared(f"the package {PACKAGE} holds no {name}")


def sha256_of(path: Path) -> str:
    """The file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make(folder: Path) -> PreparedModel:
    weights = package_file(WEIGHTS, WEIGHTS_SHA256)
    tokenizer = package_file(TOKENIZER, TOKENIZER_SHA256)
    with tempfile.TemporaryDirectory(prefix=_MAKING, dir=folder) as making:
        new_graph = Path(making) / _GRAPH
        _quantize(weights, new_graph)
        new_tokenizer = Path(making) / TOKENIZER
        shutil.copyfile(tokenizer, new_tokenizer)
        manifest = _Manifest(
            recipe=RECIPE, weights=WEIGHTS_SHA256, graph=sha256_of(new_graph), tokenizer=sha256_of(new_tokenizer)
        )
        new_manifest = Path(making) / _MANIFEST
        new_manifest.write_text(manifest.model_dump_json(indent=2) + "\n")
        for new in (new_graph, new_tokenizer, new_manifest):
            _keep(new, folder / new.name)
    return PreparedModel(graph=folder / _GRAPH, tokenizer=folder / TOKENIZER)


def _quantize(weights: Path, target: Path) -> None:
    # Only this process needs the converters: they must not weigh on whoever merely reads a prepared model.
    from onnxruntime.quantization import QuantType, quantize_dynamic  # pyright: ignore[reportUnknownVariableType]
    from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

    from memcube_embedding.embedders.minilm_graph import build_graph

    quantize_dynamic(
        build_graph(load_file(weights)),
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather"],
    )


def _keep(new: Path, place: Path) -> None:
    """Move a finished file to its place so that a power cut leaves the old one, none, or all of the new one."""
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(place)
    directory = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the file's lock; the system releases it when its holder dies."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Prepare the model in the given folder; the exit code is 0, or 1 with the reason on standard error."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m memcube_embedding.embedders.prepare MODELS_DIR\n")
        return 2
    try:
        prepare(Path(arguments[0]))
    except (ModelNotPrepared, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
