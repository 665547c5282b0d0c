-- name: claim_key
-- Take an Idempotency-Key for this transaction; waits for another that is using it. Returns a row only to whom it is
-- new (or older than a day): everyone else finds the answer that was kept.
insert into idempotency_keys as k (project_id, principal, route, key, request_hash)
values ($1, $2, $3, $4, $5)
on conflict (project_id, principal, route, key) do update
   set request_hash = excluded.request_hash, status = null, body = null, created_at = now()
 where k.created_at < now() - interval '24 hours'
returning key;

-- name: read_answer
-- What was answered to an Idempotency-Key, and to which body.
select request_hash, status, body from idempotency_keys
 where project_id = $1 and principal = $2 and route = $3 and key = $4;

-- name: keep_answer
-- Keep the answer beside its effect, in the same transaction.
update idempotency_keys set status = $5, body = $6
 where project_id = $1 and principal = $2 and route = $3 and key = $4;

-- name: forget_answers
-- Answers older than a day, at most $1 of them at a time; of every project, as the policy `forget` allows.
with old as (
  select project_id, principal, route, key from idempotency_keys
   where created_at < now() - interval '24 hours' order by created_at limit $1
)
delete from idempotency_keys k using old
 where k.project_id = old.project_id and k.principal = old.principal and k.route = old.route and k.key = old.key
   and k.created_at < now() - interval '24 hours'
returning 1;

-- name: note_denials
-- Attempts that were refused, into the events of the transaction's project.
select note_denials($1::text[], $2::text[], $3::text[], $4::int[]);

-- name: feed_ends
-- The newest position of a project, and the oldest that is still kept (none where nothing is).
select coalesce((select position from feed_heads where project_id = $1), 0) as head,
       (select position from feed where project_id = $1 order by position limit 1) as first;

-- name: read_changes
-- Changes after a position, in order. What the reader may not see, or may not see any more, has a position and nothing
-- else: a memory's change is shown while the memory is, its expiry and its purge to those who could read it.
select f.position, c.type, c.at, c.body, c.memory_id, c.agent, c.visibility, c.read_roles, c.let_in, c.denied
  from (select position, seq, day from feed where project_id = $1 and position > $2 order by position limit $3) f
  left join lateral (
    select x.* from changes x
     where x.seq = f.seq and x.day = f.day and x.project_id = $1
       and (x.memory_id is null or x.type in ('memory.v1.purged', 'memory.v1.expired')
            or exists (select from memories m where m.project_id = $1 and m.id = x.memory_id))) c on true
 order by f.position;

-- name: count_holdings
-- What a project holds, by state; counted, so meant for people and not for hot paths.
select p.id, p.language, p.created_at, count(m.id) as memories,
       count(m.id) filter (where m.embedding_state = 'ready') as searchable,
       count(m.id) filter (where m.embedding_state = 'pending') as pending,
       count(m.id) filter (where m.embedding_state = 'failed') as failed
  from projects p left join memories m on m.project_id = $1
 where p.id = $1
 group by p.id;
