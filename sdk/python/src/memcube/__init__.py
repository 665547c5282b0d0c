"""The MemCube client: memories for agents, over HTTP (`MemCubeClient`) and NATS (`memcube.bus.AgentConnection`)."""

from memcube.client import MemCubeClient
from memcube.credential import Account, Session
from memcube.errors import (
    Conflict,
    FieldError,
    IdempotencyKeyReused,
    Invalid,
    Malformed,
    MemCubeError,
    NotAllowed,
    NotFound,
    NotSignedIn,
    NotYet,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
    Unprocessable,
    Unreachable,
)
from memcube.models import Change, Embedding, Found, FoundMemory, ImportResult, Memory, Receipt, Reset
from memcube.patience import Patience

__all__ = [
    "Account",
    "Change",
    "Conflict",
    "Embedding",
    "FieldError",
    "Found",
    "FoundMemory",
    "IdempotencyKeyReused",
    "ImportResult",
    "Invalid",
    "Malformed",
    "MemCubeClient",
    "MemCubeError",
    "Memory",
    "NotAllowed",
    "NotFound",
    "NotSignedIn",
    "NotYet",
    "Patience",
    "Receipt",
    "Reset",
    "Session",
    "TooLarge",
    "TooManyRequests",
    "Unavailable",
    "UnexpectedAnswer",
    "Unprocessable",
    "Unreachable",
]
