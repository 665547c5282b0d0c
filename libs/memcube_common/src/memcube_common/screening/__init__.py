"""Personal data and secrets in text: found, named, and replaced where a project wants it, before anything is stored."""

from memcube_common.screening.kinds import KINDS
from memcube_common.screening.text import Screened, screen
from memcube_common.screening.threads import ScreeningThreads
from memcube_common.screening.writing import (
    Screener,
    marked,
    screen_change,
    screen_change_soon,
    screen_content_soon,
    screen_message,
    screen_writing,
    screen_writing_soon,
    size_of,
)

__all__ = [
    "KINDS",
    "Screened",
    "Screener",
    "ScreeningThreads",
    "marked",
    "screen",
    "screen_change",
    "screen_change_soon",
    "screen_content_soon",
    "screen_message",
    "screen_writing",
    "screen_writing_soon",
    "size_of",
]
