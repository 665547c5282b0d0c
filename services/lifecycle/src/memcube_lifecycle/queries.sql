-- name: maintain_partitions
-- Make the change feed's partitions of the coming week and drop those older than $1 days.
select maintain_partitions(7, $1);

-- name: forget_idempotency_keys
-- Idempotency keys are remembered for a day.
delete from idempotency_keys where created_at < now() - interval '24 hours';
