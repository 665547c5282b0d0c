-- name: list_parked
-- What was set aside, newest first: messages of the bus, and insights and conversations that came over HTTP.
select project_id, id, source, subject, reason, attempts, parked_at
  from (select project_id, id, source, subject, reason, attempts, parked_at from parked
        union all
        select project_id, id, 'HTTP', '', coalesce(reason, ''), null, accepted_at from insights where state = 'parked'
        union all
        select project_id, id, 'HTTP', '', coalesce(reason, ''), null, accepted_at
          from conversations where state = 'parked') p
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

-- name: read_parked_conversation
-- One conversation that was set aside, with its messages.
select project_id, id, agent_id, messages::text as messages, reason, accepted_at
  from conversations where id = $1 and state = 'parked';

-- name: unpark
-- Take an insight or a conversation that came over HTTP back among the accepted ones, and put it in the line for
-- ingestion again; returns what it is.
with insight as (
  update insights set state = 'accepted', reason = null where id = $1 and state = 'parked' returning project_id
), conversation as (
  update conversations set state = 'accepted', reason = null where id = $1 and state = 'parked' returning project_id
), found as (
  select 'insight' as kind, project_id from insight union all select 'conversation', project_id from conversation
), queued as (
  insert into work_queue (kind, project_id, item_id) select kind, project_id, $1 from found on conflict do nothing
)
select kind from found;

-- name: drop_parked
-- Throw a message away for good; returns its subject.
delete from parked where id = $1 returning subject;

-- name: count_parked
-- How many messages, insights and conversations are set aside.
select (select count(*) from parked) + (select count(*) from insights where state = 'parked')
       + (select count(*) from conversations where state = 'parked');

-- name: queue_depth
-- Work that waits: how much of each kind, how much of it was tried before, and the age of the oldest in seconds.
select kind, count(*) as waiting, count(*) filter (where attempts > 0) as tried,
       coalesce(extract(epoch from clock_timestamp() - min(due_at)), 0)::float8 as oldest
  from work_queue group by kind order by kind;

-- name: list_projects
-- Every project, by name.
select id, created_at from projects order by id;
