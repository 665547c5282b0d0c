-- name: claim_work
-- Due work of one kind, fairly over projects, leased for $3 seconds: names only.
select project_id, item_id, attempts from claim_work($1, $2, make_interval(secs => $3));

-- name: finish_work
-- This work is done by the transaction that says so; returns what was still there to be done.
delete from work_queue where kind = $1 and project_id = $2 and item_id = any($3::uuid[]) returning item_id;

-- name: postpone_work
-- Try this again in $4 seconds.
update work_queue set due_at = clock_timestamp() + make_interval(secs => $4)
 where kind = $1 and project_id = $2 and item_id = any($3::uuid[]);

-- name: park
-- Set a message aside with its reason.
insert into parked (project_id, id, source, subject, headers, payload, reason, attempts)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict do nothing;

-- name: lead
-- Be the relay for the next seconds, if nobody else is; also saves how far was published.
update relay_cursor
   set leader = $1, lease_until = clock_timestamp() + make_interval(secs => $2), published = greatest(published, $3)
 where leader = $1 or lease_until < clock_timestamp()
returning placed, published;

-- name: last_drawn
-- The newest number drawn for a change, committed or not. Read before the marks.
select last_value from changes_seq;

-- name: lowest_mark
-- The smallest number above which a running transaction may still write. Read before the rows.
select min(((classid::bigint << 32) | objid::bigint) & ((1::bigint << 48) - 1)) from pg_locks
 where locktype = 'advisory' and objsubid = 1 and (classid::bigint >> 16) = 4711
   and database = (select oid from pg_database where datname = current_database());

-- name: place_changes
-- Give the changes in ($1, $2] their places in their projects, at most $3 of them; returns the last number placed.
with next as (
  select seq, day, project_id from changes where seq > $1 and seq <= $2 order by seq limit $3
), counted as (
  select project_id, count(*) as many from next group by project_id
), heads as (
  insert into feed_heads (project_id, position) select project_id, many from counted order by project_id
  on conflict (project_id) do update set position = feed_heads.position + excluded.position
  returning project_id, position
), placed as (
  insert into feed (project_id, position, seq, day)
  select n.project_id,
         h.position - c.many + row_number() over (partition by n.project_id order by n.seq),
         n.seq, n.day
    from next n join counted c using (project_id) join heads h using (project_id)
)
select max(seq) as last, count(*) as many from next;

-- name: move_placed
-- All changes up to this number have their places.
update relay_cursor set placed = $1;

-- name: read_placed
-- Changes with their places, in order, for publishing.
select c.seq, c.project_id, f.position, c.type, c.agent, c.at, c.body, c.audience, c.visibility, c.read_roles,
       c.let_in, c.denied
  from feed f join changes c on c.seq = f.seq and c.day = f.day
 where f.seq > $1 and f.seq <= $2 and c.seq > $1 and c.seq <= $2
 order by f.seq limit $3;
