"""What goes through the HTTP door about identity: signing in, accounts, members, invitations, keys, their history."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, SecretStr, StringConstraints, model_validator

from memcube_common.contracts.api import Answer
from memcube_common.contracts.fields import Closed, Label, Moment, Role, Screening, storable
from memcube_common.ids import AgentName, ProjectSlug

PASSWORD_LEAST: Final = 12
PASSWORD_MOST: Final = 256
RESERVED_HANDLES: Final = frozenset({"doorkeeper", "import", "key", "memcube", "operator", "room", "system"})

MemberRole = Literal["OWNER", "ADMIN", "MEMBER", "AGENT", "VIEWER"]
KeyKind = Literal["secret", "publishable"]
EndReason = Literal["signed_out", "password_changed", "token_reused"]


def _address(text: str) -> str:
    name, at, host = text.strip().rpartition("@")
    if not at or not name or not host or "@" in name:
        raise ValueError("must be an e-mail address")
    if any(unicodedata.category(c)[0] in "CZ" for c in text.strip()):
        raise ValueError("must not contain spaces or control characters")
    return text.strip()


def _secret_text(secret: SecretStr) -> SecretStr:
    storable(secret.get_secret_value())
    return secret


def _free_handle(handle: str) -> str:
    if handle.lower() in RESERVED_HANDLES:
        raise ValueError("this name is MemCube's own")
    return handle


Email = Annotated[
    str, StringConstraints(min_length=3, max_length=254), AfterValidator(storable), AfterValidator(_address)
]
"""An e-mail address of at most 254 characters; looked up in its normal form (NFC, case folded)."""

NewPassword = Annotated[
    SecretStr, Field(min_length=PASSWORD_LEAST, max_length=PASSWORD_MOST), AfterValidator(_secret_text)
]
"""A password as it is chosen: 12-256 characters, no NUL."""

GivenPassword = Annotated[SecretStr, Field(min_length=1, max_length=PASSWORD_MOST), AfterValidator(_secret_text)]
"""A password as it is proved."""

Token = Annotated[SecretStr, Field(min_length=1, max_length=256)]
Handle = Annotated[AgentName, AfterValidator(_free_handle)]
"""The name of a member or key inside a project: 1-64 characters of A-Z, a-z, 0-9, '_' and '-'."""


class SignIn(Closed):
    """Who signs in."""

    email: Email
    password: GivenPassword


class Refresh(Closed):
    """A refresh token, to be exchanged for the next one."""

    refresh_token: Token


class PasswordChange(Closed):
    """The password that counts, and the one that shall."""

    current_password: GivenPassword
    new_password: NewPassword = Field(description="12-256 characters.")


class NewAccount(Closed):
    """An account that joins a project by an invitation."""

    email: Email
    name: Label = Field(description="What people are called, 1-200 characters.")
    password: NewPassword = Field(description="12-256 characters; where the e-mail has an account, that one's.")
    invitation: Token


class Joining(Closed):
    """An invitation to use up."""

    invitation: Token


class NewProject(Closed):
    """A project to make."""

    id: ProjectSlug
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,32}$")] = Field(
        default="english", description="Text search configuration its memories are indexed with."
    )
    handle: Handle = Field(default="owner", description="What its maker is called in it.")


def _without_default(schema: dict[str, Any]) -> None:
    """What is absent stays as it is: no value stands for it."""
    del schema["default"]


class ProjectChanges(Closed):
    """What a project decides about what is written into it; what is absent stays as it is."""

    screening: Screening = Field(
        default="off",
        description="What becomes of personal data and secrets in new text: `off` keeps it as it is, `tag` marks it in"
        " `governance.pii_kinds`, `redact` puts `[redacted:<kind>]` in its place before anything is stored.",
        json_schema_extra=_without_default,
    )
    near_duplicates: Annotated[float, Field(ge=0.8, le=1)] | None = Field(
        default=None,
        description="Cosine similarity, 0.8 … 1, from which a new insight supports the memory there is instead of"
        " making another; null turns this off.",
    )


class NewInvitation(Closed):
    """Whom to invite: under which handle, with which role."""

    handle: Handle
    role: MemberRole = "MEMBER"


class RoleChange(Closed):
    """The role a member shall have."""

    role: MemberRole


class NewKey(Closed):
    """A key to make. A publishable one reads what is public and has no role."""

    name: Handle = Field(description="Who its memories are by; a member's handle is taken.")
    kind: KeyKind = "secret"
    role: Role | None = Field(default=None, description="SERVICE if absent; at most the maker's own.")
    expires_at: Moment | None = Field(default=None, description="When it ends by itself; never if absent.")

    @model_validator(mode="after")
    def _fits(self) -> NewKey:
        if self.kind == "publishable" and self.role is not None:
            raise ValueError("a publishable key has no role")
        return self


class SignedInAs(Answer):
    """Whose session it is."""

    id: UUID
    email: str
    name: str


class TokenAnswer(Answer):
    """A session: the access token for requests, the refresh token for the next pair. Shown once."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (the name of a scheme)
    expires_in: int = Field(description="Seconds the access token is valid.")
    refresh_token: str = Field(description="Valid once, for 30 days.")
    account: SignedInAs


class Jwk(Answer):
    """A public key that access tokens are signed with."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    use: Literal["sig"]


class Jwks(Answer):
    """The public keys of this house (RFC 7517)."""

    keys: list[Jwk]


class Membership(Answer):
    """A project an account is a member of."""

    project: str
    handle: str
    role: Role
    joined_at: datetime


class Memberships(Answer):
    """The projects of an account."""

    projects: list[Membership]


class AccountAnswer(Answer):
    """An account as it sees itself."""

    id: UUID
    email: str
    name: str
    may_create_projects: bool
    created_at: datetime
    memberships: list[Membership]


class MadeProject(Answer):
    """A project that was made just now."""

    id: str
    language: str
    created_at: datetime
    handle: str
    role: Role


class Member(Answer):
    """Somebody in a project."""

    handle: str
    role: Role
    joined_at: datetime
    invited_by: str


class Invitation(Answer):
    """An invitation nobody used yet."""

    id: UUID
    handle: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime


class Members(Answer):
    """Who is in a project; open invitations are shown to its OWNERs and ADMINs."""

    members: list[Member]
    invitations: list[Invitation]


class MadeInvitation(Answer):
    """An invitation with its token, which is shown this once."""

    id: UUID
    handle: str
    role: Role
    token: str = Field(description="For `POST /v1/accounts`; whoever has it may join. Valid once, for 7 days.")
    expires_at: datetime


class KeyAnswer(Answer):
    """A key without its secret."""

    id: UUID
    name: str
    kind: KeyKind
    role: Role | Literal["PUBLIC"]
    prefix: str = Field(description="What the key begins with.")
    created_by: str
    created_at: datetime
    last_used_at: datetime | None = Field(default=None, description="To the minute.")
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class Keys(Answer):
    """The keys of a project, newest first."""

    keys: list[KeyAnswer]


class MadeKey(KeyAnswer):
    """A key with its secret, which is shown this once."""

    key: str


class ProjectEvent(Answer):
    """Something that happened to a project: who did it, by which credential and from where, to whom."""

    id: UUID
    at: datetime
    kind: str = Field(description="For example `member.joined`, `key.revoked`.")
    actor: str
    source: str
    subject: str
    details: dict[str, JsonValue]


class ProjectEvents(Answer):
    """The history of a project, newest first."""

    events: list[ProjectEvent]
