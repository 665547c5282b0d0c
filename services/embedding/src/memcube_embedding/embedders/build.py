"""Builds the embedder the settings ask for, with the guards it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from memcube_embedding.embedders.breaker import BreakingEmbedder, Circuit
from memcube_embedding.embedders.microbatch import MicroBatcher
from memcube_embedding.embedders.protocol import Embedder
from memcube_embedding.embedders.retrying import RetryingEmbedder
from memcube_embedding.settings import EmbeddingSettings


async def build_embedder(
    settings: EmbeddingSettings, *, on_circuit: Callable[[Circuit], None] | None = None
) -> Embedder:
    """The ready embedder; closing it closes all it is made of. `on_circuit` hears when its breaker opens or closes.

    The first start with the local model converts it, which takes some seconds. Raises `ModelNotPrepared` when that
    is impossible.
    """
    match settings.embedder:
        case "local":
            # Imported here: a room asking OpenAI needs no onnxruntime, and one embedding itself no HTTP client.
            from memcube_embedding.embedders.local import LocalEmbedder

            return await LocalEmbedder.open(settings.models_dir, threads=settings.local_threads)
        case "openai":
            return _build_openai(settings, on_circuit)
        case _:
            assert_never(settings.embedder)


def build_micro_batcher(settings: EmbeddingSettings, embedder: Embedder) -> MicroBatcher:
    """The micro-batcher through which questions reach `embedder`."""
    return MicroBatcher(
        embedder,
        window=settings.query_window,
        max_waiting=settings.query_waiting,
        flights=settings.query_flights,
        cache_entries=settings.query_cache,
    )


def _build_openai(settings: EmbeddingSettings, on_circuit: Callable[[Circuit], None] | None) -> Embedder:
    """One request at a time is tried (inside), counted by the breaker, and repeated (outside)."""
    from memcube_embedding.embedders.openai import OpenAIEmbedder

    assert settings.openai_api_key is not None
    endpoint = OpenAIEmbedder(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_base_url,
        model=settings.openai_model,
        dimensions=settings.openai_dimensions,
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
