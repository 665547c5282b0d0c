"""Which model is meant: by settings, by a generation of vectors, by the operator's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from memcube_common.memories.generations import Model
from memcube_embedding.embedders.build import (
    LOCAL,
    Identity,
    UnknownModel,
    build_embedder,
    configured,
    identify,
    remote,
)
from memcube_embedding.embedders.protocol import EmbedderUnavailable
from memcube_embedding.settings import EmbeddingSettings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> EmbeddingSettings:
    """A room's settings, without a key for an endpoint."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("MEMCUBE_POSTGRES_DSN", "postgresql://localhost/none")
    monkeypatch.setenv("MEMCUBE_NATS_URL", "nats://localhost:1")
    monkeypatch.setenv("MEMCUBE_OPENAI_DIMENSIONS", "700")
    return EmbeddingSettings()  # pyright: ignore[reportCallIssue]  (the environment above has the rest)


@pytest.mark.parametrize(
    ("target", "name", "dimensions"),
    [
        ("local", "all-MiniLM-L6-v2", 384),
        ("openai:text-embedding-3-large", "text-embedding-3-large", 3072),
        ("openai:text-embedding-3-large:256", "text-embedding-3-large", 256),
        ("openai:nomic-embed-text:v1.5", "nomic-embed-text:v1.5", 700),
        ("openai:nomic-embed-text:v1.5:768", "nomic-embed-text:v1.5", 768),
        ("openai:my/own", "my/own", 700),
    ],
)
def test_a_target_names_a_model(settings: EmbeddingSettings, target: str, name: str, dimensions: int) -> None:
    identity = identify(target, settings)
    assert (identity.name, identity.dimensions) == (name, dimensions)


@pytest.mark.parametrize("target", ["", "openai", "openai:", "cohere:x", "openai:x:1", "openai:x:4001", "Local"])
def test_other_words_name_none(settings: EmbeddingSettings, target: str) -> None:
    with pytest.raises(UnknownModel):
        identify(target, settings)


@given(name=some.from_regex(r"\A[a-z0-9:/._-]{1,40}\Z"), dimensions=some.integers(2, 4000))
def test_a_generation_is_known_again_by_its_name(name: str, dimensions: int) -> None:
    identity = remote(name, dimensions)
    model = Model(3, identity.name, identity.dimensions, identity.fingerprint, used=True)
    assert Identity.of(model) == identity
    assert identify(identity.target, EmbeddingSettings.model_construct(openai_dimensions=700)) == identity


async def test_a_model_this_version_does_not_carry_is_not_taken_for_another(settings: EmbeddingSettings) -> None:
    assert configured(settings) == LOCAL
    with pytest.raises(UnknownModel, match="does not carry the model all-MiniLM"):
        await build_embedder(settings, Identity("local", LOCAL.name, LOCAL.dimensions, "int8-0/older"))
    with pytest.raises(EmbedderUnavailable, match="needs OPENAI_API_KEY"):
        await build_embedder(settings, remote("text-embedding-3-small", 1536))
