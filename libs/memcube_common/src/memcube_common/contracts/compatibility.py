"""Whether a new form of an event breaks who reads or sends it by the old one: only optional fields may come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias, cast

Json: TypeAlias = dict[str, Any]

_WORDS: Final = frozenset({"title", "description", "default", "examples", "$id", "$schema", "$defs"})
_LOOKED_INTO: Final = frozenset({"properties", "required", "enum", "items", "additionalProperties", "anyOf", "$ref"})


def breaking_changes(old: Json, new: Json) -> list[str]:
    """What of `new` breaks `old`, both JSON Schemas of one event; empty where only optional fields came."""
    return list(_breaks(old, new, old, new, "body"))


def resolve(schema: Json, root: Json) -> Json:
    """The schema that a `$ref` into the `$defs` of `root` stands for; any other schema is itself."""
    while "$ref" in schema:
        schema = cast("Json", root["$defs"][cast("str", schema["$ref"]).rpartition("/")[2]])
    return schema


def _breaks(old: Json, new: Json, old_root: Json, new_root: Json, place: str) -> Iterator[str]:
    old, new = resolve(old, old_root), resolve(new, new_root)
    before = cast("dict[str, Json]", old.get("properties", {}))
    after = cast("dict[str, Json]", new.get("properties", {}))
    for name, schema in before.items():
        if name not in after:
            yield f"{place}.{name} was removed"
        else:
            yield from _breaks(schema, after[name], old_root, new_root, f"{place}.{name}")
    needed, needed_now = set(old.get("required", [])), set(new.get("required", []))
    yield from (f"{place}.{name} became required" for name in sorted(needed_now - needed))
    yield from (f"{place}.{name} is not required any more" for name in sorted((needed - needed_now) & set(after)))
    values_now = cast("list[Any]", new.get("enum", []))
    yield from (
        f"{place}: {value!r} went" for value in cast("list[Any]", old.get("enum", [])) if value not in values_now
    )
    for keyword in sorted((set(old) | set(new)) - _WORDS - _LOOKED_INTO):
        if old.get(keyword) != new.get(keyword):
            yield f"{place}: {keyword} was {old.get(keyword)!r}, is {new.get(keyword)!r}"
    for keyword in ("items", "additionalProperties"):
        inner, inner_now = old.get(keyword), new.get(keyword)
        if isinstance(inner, dict) and isinstance(inner_now, dict):
            yield from _breaks(cast("Json", inner), cast("Json", inner_now), old_root, new_root, f"{place}[]")
        elif inner != inner_now:
            yield f"{place}: {keyword} was {inner!r}, is {inner_now!r}"
    forms, forms_now = cast("list[Json]", old.get("anyOf", [])), cast("list[Json]", new.get("anyOf", []))
    if len(forms) != len(forms_now):
        yield f"{place}: takes {len(forms_now)} forms instead of {len(forms)}"
    for form, form_now in zip(forms, forms_now, strict=False):
        yield from _breaks(form, form_now, old_root, new_root, place)
