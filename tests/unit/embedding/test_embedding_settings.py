"""The embedding room's settings: read by name, refused when they cannot work, silent about secrets."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from memcube_embedding.embedders.build import build_embedder
from memcube_embedding.embedders.retrying import RetryingEmbedder
from memcube_embedding.settings import EmbeddingSettings


@pytest.fixture(autouse=True)
def _a_rooms_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("MEMCUBE_POSTGRES_DSN", "postgresql://localhost/none")
    monkeypatch.setenv("MEMCUBE_NATS_URL", "nats://localhost:1")


def settings() -> EmbeddingSettings:
    return EmbeddingSettings()  # pyright: ignore[reportCallIssue]  (the environment above has the rest)


def test_the_default_is_the_local_model_with_one_thread() -> None:
    assert settings().embedder == "local"
    assert settings().local_threads == 1


@pytest.mark.parametrize("key", [None, "", "   ", "two words", "line\nbreak", "schlüssel"])
def test_openai_without_a_usable_key_does_not_start(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.setenv("MEMCUBE_EMBEDDER", "openai")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValidationError, match="needs OPENAI_API_KEY") as caught:
        settings()
    assert not key or not key.strip() or key not in str(caught.value)


async def test_openai_is_built_from_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCUBE_EMBEDDER", "openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    monkeypatch.setenv("MEMCUBE_OPENAI_MODEL", "text-embedding-3-large")
    monkeypatch.setenv("MEMCUBE_OPENAI_DIMENSIONS", "256")
    read = settings()
    assert "sk-not-a-real-key" not in repr(read)
    embedder = await build_embedder(read)
    assert isinstance(embedder, RetryingEmbedder)
    assert (embedder.model.name, embedder.model.dimensions) == ("text-embedding-3-large", 256)
    await embedder.aclose()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMCUBE_LOCAL_THREADS", "0"),
        ("MEMCUBE_BREAKER_FAILURES", "21"),
        ("MEMCUBE_BREAKER_PROBE_INTERVAL", "1"),
        ("MEMCUBE_OPENAI_DIMENSIONS", "5000"),
        ("MEMCUBE_OPENAI_BASE_URL", "file:///etc"),
        ("MEMCUBE_EMBEDDER", "magic"),
    ],
)
def test_a_value_outside_its_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        settings()
