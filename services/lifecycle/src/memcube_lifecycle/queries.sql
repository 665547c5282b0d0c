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
