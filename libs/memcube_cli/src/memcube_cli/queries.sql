-- name: list_parked
-- What was set aside, newest first: messages of the bus, and insights that came over HTTP.
select project_id, id, source, subject, reason, attempts, parked_at
  from (select project_id, id, source, subject, reason, attempts, parked_at from parked
        union all
        select project_id, id, 'HTTP', '', coalesce(reason, ''), null, accepted_at from insights where state = 'parked') p
 where $1::text is null or project_id = $1
 order by parked_at desc, id desc
 limit $2;

-- name: read_parked
-- One message that was set aside, whole.
select project_id, id, source, subject, headers::text as headers, payload, reason, attempts, parked_at
  from parked where id = $1;

-- name: read_parked_insight
-- One insight that came over HTTP and was set aside.
select project_id, id, agent_id, insight, label, tags, reason, accepted_at
  from insights where id = $1 and state = 'parked';

-- name: unpark_insight
-- Take an insight that came over HTTP back among the accepted ones; returns its project.
update insights set state = 'accepted', reason = null where id = $1 and state = 'parked' returning project_id;

-- name: queue_insight
-- Put an accepted insight in the line for ingestion again.
insert into work_queue (kind, project_id, item_id) values ('insight', $1, $2) on conflict do nothing;

-- name: drop_parked
-- Throw a message away for good; returns its subject.
delete from parked where id = $1 returning subject;

-- name: count_parked
-- How many messages and insights are set aside.
select (select count(*) from parked) + (select count(*) from insights where state = 'parked');

-- name: queue_depth
-- Work that waits: how much of each kind, how much of it was tried before, and the age of the oldest in seconds.
select kind, count(*) as waiting, count(*) filter (where attempts > 0) as tried,
       coalesce(extract(epoch from clock_timestamp() - min(due_at)), 0)::float8 as oldest
  from work_queue group by kind order by kind;

-- name: list_projects
-- Every project, by name.
select id, created_at from projects order by id;
