"""`memcube embeddings`: what the operator is told of a migration, and what he is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from tests.rooms import admin

from memcube_cli import embeddings
from memcube_cli.house import House
from memcube_common.testing.servers import HouseDatabase, HouseProject

SAMPLES = [{"overlap": share, "old_ms": 10.0 + n, "new_ms": 20.0 + n} for n, share in enumerate((1.0, 0.9, 0.6, 0.1))]


@pytest.fixture
def house(database: HouseDatabase, project: HouseProject, tmp_path: Path) -> House:
    """The stack as its operator knows it."""
    return House(
        home=tmp_path,
        gateway="http://127.0.0.1:9",
        project=project.slug,
        key=project.key,
        nats=None,
        postgres=database.admin_dsn,
        is_local=True,
    )


async def test_a_migration_is_shown_compared_and_taken_on(
    house: House, database: HouseDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        await embeddings.migrate_to(house, "openai:other:8", yes=True)
    assert "no model is in use yet" in capsys.readouterr().err
    async with admin(database) as psql:
        old, new = [
            await psql.fetchval(
                "insert into memcube.embedding_models (name, dimensions, fingerprint, current)"
                " values ($1, 8, $1, $2) returning generation",
                name,
                name == "one",
            )
            for name in ("one", "other")
        ]
        migration = await psql.fetchval(
            "insert into memcube.embedding_migrations (target, from_generation, to_generation)"
            " values ('openai:other:8', $1, $2) returning id",
            old,
            new,
        )
        await psql.execute(
            "insert into memcube.embedding_backfills"
            " (project_id, migration, todo, fed, made, refused, refusals, samples) values ($1, $2, 4, 4, 3, 1, $3, $4)",
            house.project,
            migration,
            json.dumps({"too strange": {"count": 1, "ids": ["0189"]}}),
            json.dumps(SAMPLES),
        )
    await embeddings.show_status(house)
    said = capsys.readouterr().out
    assert "in force: one (8 dimensions)" in said
    assert "migration to openai:other:8: ready" in said
    assert "4 of 4 that were there before, 0 waiting; 3 vectors made, 1 texts refused" in said
    assert f"refused in {house.project}: 1 (too strange), found by words only: 0189" in said
    assert "overlap@10: 0.650" in said
    assert "2 searches share 75-100 %, 1 searches share 50-75 %, 1 searches share 0-25 %" in said
    assert "old\t11.0\t13.0" in said
    assert "new\t21.0\t23.0" in said

    await embeddings.take_step(house, "cut-over", "Searches use the new model.")
    await embeddings.show_status(house)
    said = capsys.readouterr().out
    assert "in force: other (8 dimensions)" in said
    with pytest.raises(typer.Exit):
        await embeddings.take_step(house, "cancel", "")
    assert "searches use the new model: roll back first" in capsys.readouterr().err
    with pytest.raises(typer.Exit):
        await embeddings.migrate_to(house, "local", yes=True)
    assert "A migration to openai:other:8 is under way" in capsys.readouterr().err
