"""Builds the reranker the settings ask for, if they ask for one."""

from __future__ import annotations

from memcube_common.rerank.protocol import Reranker
from memcube_common.rerank.settings import RerankSettings


def build_reranker(settings: RerankSettings) -> Reranker | None:
    """The reranker behind its breaker, or None where no address is set. Nothing is connected to before it is asked."""
    if settings.rerank_url is None:
        return None
    from memcube_common.rerank.breaker import BreakingReranker
    from memcube_common.rerank.http import HttpReranker  # here: a room without a reranker need not load a client

    key = "" if settings.rerank_key is None else settings.rerank_key.get_secret_value()
    return BreakingReranker(
        HttpReranker(settings.rerank_url, model=settings.rerank_model, key=key, timeout=settings.rerank_within)
    )
