"""Builds the embedder that settings, a generation or a migration ask for, with the guards it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from memcube_common.errors import Unprocessable
from memcube_common.memories.generations import Model
from memcube_embedding.embedders import minilm
from memcube_embedding.embedders.breaker import BreakingEmbedder, Circuit
from memcube_embedding.embedders.microbatch import MicroBatcher
from memcube_embedding.embedders.protocol import Embedder, EmbedderUnavailable
from memcube_embedding.embedders.retrying import RetryingEmbedder
from memcube_embedding.settings import EmbeddingSettings

OnCircuit = Callable[[Circuit], None]
_KNOWN_DIMENSIONS: Final = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_MOST_DIMENSIONS: Final = 4000


class UnknownModel(Unprocessable):
    """No embedder of this name can be made here."""

    code = "unknown_model"


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one model from another. target: as `memcube embeddings migrate --to` names it."""

    target: str
    name: str
    dimensions: int
    fingerprint: str

    @classmethod
    def of(cls, model: Model) -> Identity:
        """The model of a generation."""
        target = f"openai:{model.name}:{model.dimensions}" if model.fingerprint.startswith("openai/") else "local"
        return cls(target, model.name, model.dimensions, model.fingerprint)


LOCAL: Final = Identity("local", minilm.MODEL_NAME, minilm.DIMENSIONS, minilm.FINGERPRINT)


def remote(name: str, dimensions: int) -> Identity:
    """A model behind an OpenAI endpoint; what it is called there is all that is known of it."""
    return Identity(f"openai:{name}:{dimensions}", name, dimensions, f"openai/{name}/{dimensions}")


def configured(settings: EmbeddingSettings) -> Identity:
    """The model that the settings name."""
    return LOCAL if settings.embedder == "local" else remote(settings.openai_model, settings.openai_dimensions)


def identify(target: str, settings: EmbeddingSettings) -> Identity:
    """The model that an operator named: `local` or `openai:NAME[:DIMENSIONS]`.

    Without DIMENSIONS, what is known of OpenAI's own models, else the setting. Raises UnknownModel for other words.
    """
    if target == "local":
        return LOCAL
    kind, _, name = target.partition(":")
    head, _, tail = name.rpartition(":")
    dimensions = int(tail) if head and tail.isascii() and tail.isdigit() and len(tail) <= 4 else None
    name = name if dimensions is None else head
    if dimensions is None:
        dimensions = _KNOWN_DIMENSIONS.get(name, settings.openai_dimensions)
    if kind != "openai" or not 1 <= len(name) <= 200 or not 2 <= dimensions <= _MOST_DIMENSIONS:
        raise UnknownModel("a model is 'local' or 'openai:NAME[:DIMENSIONS]', with 2 to 4000 dimensions")
    return remote(name, dimensions)


async def build_embedder(
    settings: EmbeddingSettings, identity: Identity | None = None, *, on_circuit: OnCircuit | None = None
) -> Embedder:
    """The ready embedder of a model, of the configured one if none is named; closing it closes all it is made of.

    `on_circuit` hears when its breaker opens or closes. The first start with the local model converts it, which takes
    some seconds. Raises `ModelNotPrepared` when that is impossible, `UnknownModel` where these settings or this version
    cannot make that model.
    """
    identity = configured(settings) if identity is None else identity
    if identity.fingerprint.startswith("openai/"):
        return _build_openai(settings, identity, on_circuit)
    if identity.fingerprint != LOCAL.fingerprint:
        raise UnknownModel(f"this version does not carry the model {identity.name} ({identity.fingerprint}) any more")
    # Imported here: a room asking OpenAI needs no onnxruntime, and one embedding itself no HTTP client.
    from memcube_embedding.embedders.local import LocalEmbedder

    return await LocalEmbedder.open(settings.models_dir, threads=settings.local_threads)


def build_micro_batcher(settings: EmbeddingSettings, embedder: Embedder) -> MicroBatcher:
    """The micro-batcher through which questions reach `embedder`."""
    return MicroBatcher(
        embedder,
        window=settings.query_window,
        max_waiting=settings.query_waiting,
        flights=settings.query_flights,
        cache_entries=settings.query_cache,
    )


def _build_openai(settings: EmbeddingSettings, identity: Identity, on_circuit: OnCircuit | None) -> Embedder:
    """One request at a time is tried (inside), counted by the breaker, and repeated (outside)."""
    from memcube_embedding.embedders.openai import OpenAIEmbedder

    if settings.openai_api_key is None:
        raise EmbedderUnavailable(f"the model {identity.name} needs OPENAI_API_KEY in the embedding room", after=5.0)
    endpoint = OpenAIEmbedder(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_base_url,
        model=identity.name,
        dimensions=identity.dimensions,
        send_dimensions=settings.openai_send_dimensions,
        timeout=settings.openai_timeout,
        max_batch=settings.openai_batch,
        concurrency=settings.openai_concurrency,
    )
    guarded = BreakingEmbedder(
        endpoint,
        failures=settings.breaker_failures,
        probe_interval=settings.breaker_probe_interval,
        on_change=on_circuit,
    )
    return RetryingEmbedder(
        guarded,
        attempts=settings.openai_attempts,
        backoff=settings.openai_backoff,
        longest_wait=settings.openai_longest_wait,
    )
