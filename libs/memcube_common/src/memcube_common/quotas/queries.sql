-- name: take_quotas
-- Take several resources for the transaction's project; the first there is not enough of, or null.
select take_quotas($1::text[], $2::bigint[]);

-- name: exhaust_quota
-- Announce, once in a period, that a resource was refused.
select exhaust_quota($1);

-- name: read_quotas
-- Every resource of the transaction's project.
select resource, used, max, warned_at, exhausted_at from read_quotas();

-- name: set_quota
-- Give the transaction's project another maximum of a resource; null is unlimited.
select set_quota($1, $2);
