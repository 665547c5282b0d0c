-- name: maintain_partitions
-- Make the change feed's partitions of the coming week and drop those older than $1 days.
select maintain_partitions(7, $1);

-- name: read_clock
-- The database's own time: what one round may claim is older than its beginning.
select clock_timestamp();

-- name: claim_objects
-- At most $3 objects that must leave the store, of every project: known since before $1; arriving ones since $2 before.
select project_id, key from claim_objects($1, $2, $3);

-- name: forget_objects
-- Objects that are gone from the store. Returns how many were known.
select forget_objects($1::text[], $2::text[]);

-- name: graph_work
-- Graphs that stand or should: wanted with more than $1 vectors, kept with more than $2.
select project_id, generation, dimensions, name, building, is_wanted, stands from graph_work($1, $2);

-- name: list_graphs
-- The indexes that are graphs, whether each is whole, and the statement that drops it.
select c.relname::text as name, i.indisvalid as is_whole,
       format('drop index concurrently if exists memcube_vectors.%I', c.relname) as dropping
  from pg_class c join pg_index i on i.indexrelid = c.oid join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'memcube_vectors' and c.relname like 'graph\_%';

-- name: note_graph
-- From now on this project's graph answers.
insert into vector_graphs (project_id, generation, dimensions, seconds) values ($1, $2, $3, $4)
on conflict (project_id, generation) do nothing;

-- name: forget_graph
-- From now on this project's graph is not asked.
delete from vector_graphs where project_id = $1 and generation = $2;

-- name: uncounted_projects
-- The projects of the oldest $1 texts that are not counted.
select u as project from uncounted_projects($1) u;

-- name: fold_terms
-- Count at most $1 of the project's texts. Returns how many were.
select fold_terms(null, $1);
