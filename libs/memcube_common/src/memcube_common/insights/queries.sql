-- name: project_exists
-- Whether the transaction's project is there.
select exists (select from projects where id = $1);

-- name: insert_insights
-- Write insights down once; a second delivery finds them already there. Returns the ids that are new.
insert into insights (project_id, id, agent_id, via, insight, label, tags, evidence_refs, sentiment, priority,
                      governance, metadata, memory_id, state, stored_at)
select $1, g.id, g.agent_id, $2, g.insight, g.label, g.tags::text[], g.evidence_refs::text[], g.sentiment, g.priority,
       g.governance::jsonb, g.metadata::jsonb, g.memory_id, $3, case when $3 = 'stored' then now() end
  from unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::real[], $11::text[],
              $12::text[], $13::text[], $14::uuid[])
    as g (id, agent_id, insight, label, tags, evidence_refs, sentiment, priority, governance, metadata, memory_id)
on conflict (project_id, id) do nothing
returning id;

-- name: accept_insights
-- Write posted insights down once, put the new ones in the line for ingestion, and take from the project's quotas what
-- they and their memories will need. Returns the new ids and their time, and the resource there is not enough of, if any.
with kept as (
  insert into insights (project_id, id, agent_id, via, insight, label, tags, evidence_refs, sentiment, priority,
                        governance, metadata, memory_id, state)
  select $1, g.id, g.agent_id, $2, g.insight, g.label, g.tags::text[], g.evidence_refs::text[], g.sentiment,
         g.priority, g.governance::jsonb, g.metadata::jsonb, g.memory_id, 'accepted'
    from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::real[], $10::text[],
                $11::text[], $12::text[], $13::uuid[])
      as g (id, agent_id, insight, label, tags, evidence_refs, sentiment, priority, governance, metadata, memory_id)
  on conflict (project_id, id) do nothing
  returning id, accepted_at, octet_length(insight) as size
), queued as (
  insert into work_queue (kind, project_id, item_id) select 'insight', $1, id from kept on conflict do nothing
)
select id, accepted_at,
       (select take_quotas(array['insights_per_day', 'memories', 'bytes'], array[count(*), count(*), sum(size)])
          from kept) as refused
  from kept;

-- name: queue_insights
-- Put accepted insights in the line for ingestion.
insert into work_queue (kind, project_id, item_id)
select 'insight', $1, id from unnest($2::uuid[]) as g (id)
on conflict do nothing;

-- name: read_accepted
-- Insights that were accepted and are not stored yet.
select id, agent_id, insight, label, tags, evidence_refs, sentiment, priority, governance, metadata, accepted_at
  from unnest($2::uuid[]) as w (wanted)
 cross join lateral (select * from insights x where x.project_id = $1 and x.id = w.wanted limit 1) i
 where state = 'accepted';

-- name: mark_stored
-- These insights are memories now.
update insights set state = 'stored', stored_at = now()
 where project_id = $1 and id = any($2::uuid[]) and state = 'accepted';

-- name: mark_parked
-- This insight was set aside, with the reason.
update insights set state = 'parked', reason = $3
 where project_id = $1 and id = $2 and state = 'accepted';

-- name: bus_senders
-- Who sent the insights behind these memories over NATS and waits to hear of them.
select i.id, i.agent_id, i.memory_id
  from unnest($2::uuid[]) as w (id)
 cross join lateral (select * from insights x where x.project_id = $1 and x.memory_id = w.id and x.via = 'nats') i;

-- name: announce_receipts
-- Tell agents what became of insights they sent over NATS.
select announce_receipts($1, $2::text[], $3::uuid[], $4::uuid[], $5::text[]);

-- name: read_receipts
-- The fate of writes: of insights by their own id, of memories written directly by theirs. (A `case`, because under a
-- policy Postgres takes `coalesce` for leaky and would not look the id up by its index.)
select w.id, i.memory_id, coalesce(i.state, 'stored') as state, i.reason, i.accepted_at,
       coalesce(i.stored_at, m.stored_at) as stored_at, m.id is not null as memory_exists,
       m.embedding_state, m.embedding_reason, m.embedded_at, i.id is not null as is_insight
  from unnest($2::uuid[]) with ordinality as w (id, place)
  left join lateral (select * from insights x where x.project_id = $1 and x.id = w.id limit 1) i on true
  left join lateral (select * from memories x
                      where x.project_id = $1
                        and x.id = case when i.id is null then w.id else i.memory_id end limit 1) m on true
 where i.id is not null or m.id is not null
 order by w.place;
