"""The bodies of the seed's own endpoints: what its clients send, to be taken to what `/v1` takes."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from memcube_common.ids import ProjectSlug

Action = Literal["create", "get", "update", "delete", "archive", "restore", "list"]


class Loose(BaseModel):
    """A body whose other fields are judged by what they are handed to."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    project_id: ProjectSlug | None = Field(
        default=None, description="The project; where it is absent, the one that the key opens."
    )

    @property
    def others(self) -> dict[str, JsonValue]:
        """The fields that are not named here."""
        return dict(self.model_extra or {})


class MemoriesCrud(Loose):
    """One operation on one memory: its fields in `memory`, or beside `action`."""

    action: Action = Field(
        default="create", description="What to do. `delete` purges; `list` takes the filters of a query."
    )
    id: UUID | None = Field(default=None, description="Which memory; it may also stand in `memory`.")
    memory: dict[str, JsonValue] | None = Field(
        default=None,
        description="The memory's fields, as `POST` and `PATCH` of `/v1/…/memories` take them.",
    )


class MemoriesQuery(Loose):
    """A question: the fields of `POST /v1/projects/{project}/memories/query`; `query` may stand for `text`."""

    query: str | None = Field(default=None, description="Another name of `text`.")


class MemoriesSchedule(Loose):
    """For whom memories are chosen: the fields of `POST /v1/projects/{project}/memories/schedule`.

    `tags` may stand for `need_tags`, `query` for `text`.
    """

    tags: list[JsonValue] | None = Field(default=None, description="Another name of `need_tags`.")
    query: str | None = Field(default=None, description="Another name of `text`.")


class InsightsProcess(Loose):
    """What was learned: the fields of `POST /v1/projects/{project}/insights`.

    `content` may stand for `insight`, in each of many too.
    """

    action: Literal["process"] = "process"
    content: str | None = Field(default=None, description="Another name of `insight`.")
