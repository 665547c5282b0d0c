-- name: claim_keys
-- Take Idempotency-Keys for this transaction; waits for others that are using them. Returns those that are new (or older
-- than a day): everyone else finds the answer that was kept.
insert into idempotency_keys as k (project_id, principal, route, key, request_hash, about)
select $1, $2, $3, g.key, g.request_hash, g.about
  from unnest($4::text[], $5::bytea[], $6::uuid[]) with ordinality as g (key, request_hash, about, place)
 order by g.place
on conflict (project_id, principal, route, key) do update
   set request_hash = excluded.request_hash, about = excluded.about, status = null, body = null, created_at = now()
 where k.created_at < now() - interval '24 hours'
returning key;

-- name: read_answers
-- What was answered to Idempotency-Keys, and to which bodies; 404 in place of a memory the caller may not read any more.
select k.key, k.request_hash, k.body,
       case when k.status is null or k.about is null or m.id is not null then k.status else 404 end as status
  from idempotency_keys k
  left join lateral (select x.id from memories x where x.project_id = $1 and x.id = k.about limit 1) m on true
 where k.project_id = $1 and k.principal = $2 and k.route = $3 and k.key = any($4::text[]);

-- name: find_answer
-- What was answered to an Idempotency-Key within a day, as above, without waiting for who is using it now.
select k.request_hash, k.body, case when k.about is null or m.id is not null then k.status else 404 end as status
  from idempotency_keys k
  left join lateral (select x.id from memories x where x.project_id = $1 and x.id = k.about limit 1) m on true
 where k.project_id = $1 and k.principal = $2 and k.route = $3 and k.key = $4 and k.status is not null
   and k.created_at >= now() - interval '24 hours';

-- name: keep_answers
-- Keep answers beside their effects, in the same transaction. Keys are looked up by the whole index: joined to a list, a
-- project that the planner knows nothing of yet is read whole.
update idempotency_keys k
   set status = ($5::int[])[array_position($4, k.key)], body = ($6::bytea[])[array_position($4, k.key)]
 where k.project_id = $1 and k.principal = $2 and k.route = $3 and k.key = any($4::text[]);

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
-- else: a memory's change is shown while the memory is, its expiry and its purge to those who could read it; a chain's
-- likewise.
select f.position, c.type, c.at, c.body, coalesce(c.memory_id, (c.body ->> 'chain_id')::uuid) as memory_id, c.agent,
       c.visibility, c.read_roles, c.let_in, c.denied
  from (select position, seq, day from feed where project_id = $1 and position > $2 order by position limit $3) f
  left join lateral (
    select x.* from changes x
     where x.seq = f.seq and x.day = f.day and x.project_id = $1
       and (x.memory_id is null or x.type in ('memory.v1.purged', 'memory.v1.expired')
            or exists (select from memories m where m.project_id = $1 and m.id = x.memory_id))
       and (x.type not like 'chain.%' or x.type = 'chain.v1.deleted'
            or exists (select from chains h where h.project_id = $1 and h.id = (x.body ->> 'chain_id')::uuid))) c on true
 order by f.position;

-- name: count_holdings
-- What a project holds, by state; counted, so meant for people and not for hot paths.
select p.id, p.language, p.created_at, p.screening, p.near_duplicates, count(m.id) as memories,
       count(m.id) filter (where m.embedding_state = 'ready') as searchable,
       count(m.id) filter (where m.embedding_state = 'pending') as pending,
       count(m.id) filter (where m.embedding_state = 'failed') as failed
  from projects p left join memories m on m.project_id = $1
 where p.id = $1
 group by p.id;
