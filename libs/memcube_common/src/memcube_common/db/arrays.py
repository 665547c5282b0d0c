"""Arrays inside arrays: `unnest` flattens them, so the inner ones travel as Postgres array literals."""

from __future__ import annotations

from collections.abc import Iterable


def array_literal(values: Iterable[str]) -> str:
    """`values` as the text form of a Postgres text[]: '{"a","b \\"c\\""}'."""
    inner = ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + inner + "}"
