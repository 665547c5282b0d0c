-- name: maintain_partitions
-- Make the change feed's partitions of the coming week and drop those older than $1 days.
select maintain_partitions(7, $1);
