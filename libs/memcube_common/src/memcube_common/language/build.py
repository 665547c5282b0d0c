"""Builds the language model the settings ask for, if they ask for one."""

from __future__ import annotations

from memcube_common.language.protocol import LanguageModel
from memcube_common.language.settings import LanguageSettings


def build_language_model(settings: LanguageSettings) -> LanguageModel | None:
    """The model, or None where no key is set. The client is loaded at its first question, not here."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    if not key:
        return None
    from memcube_common.language.openai import OpenAILanguageModel

    return OpenAILanguageModel(
        api_key=key,
        model=settings.llm_model,
        base_url=settings.llm_base_url,
        timeout=settings.llm_timeout,
        concurrency=settings.llm_concurrency,
    )
