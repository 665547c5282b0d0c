"""E-mail addresses: one normal form, and the hash an account is looked up by."""

from __future__ import annotations

import hashlib
import unicodedata


def normal_email(email: str) -> str:
    """The one form of an address: NFC, without spaces around it, case folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email.strip()).casefold())


def email_key(email: str) -> str:
    """SHA-256 of the normal form, in hexadecimal: what an account is looked up by, 64 characters."""
    return hashlib.sha256(normal_email(email).encode()).hexdigest()
