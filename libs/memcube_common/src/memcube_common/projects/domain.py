"""What a project decides about what is written into it."""

from __future__ import annotations

from dataclasses import dataclass

from memcube_common.contracts.fields import Screening


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """The settings of one project, as they are kept.

    screening: what becomes of personal data and secrets in new text. near_duplicates: cosine similarity, 0.8 … 1, from
    which a new insight supports the memory there is instead of making another; None is off.
    """

    screening: Screening = "off"
    near_duplicates: float | None = None
