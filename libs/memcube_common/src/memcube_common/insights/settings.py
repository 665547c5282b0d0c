"""What a room that takes insights in, or says what would become of them, is told."""

from __future__ import annotations

from pydantic import Field

from memcube_common.language.settings import LanguageSettings


class LearningSettings(LanguageSettings):
    """How insights are learned: which language model reads conversations, and for how long a recall echoes."""

    echo_window: float = Field(
        default=3600.0, ge=0, le=86_400, description="Seconds for which what was recalled is not learned again."
    )
