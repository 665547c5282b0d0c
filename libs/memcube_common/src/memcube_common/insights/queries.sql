-- name: insert_insights
-- Write insights down once; a second delivery finds them already there. Returns the ids that were not there before.
-- One that is stored at once is new until it is settled otherwise.
insert into insights (project_id, id, agent_id, via, insight, label, tags, evidence_refs, sentiment, priority,
                      governance, metadata, memory_id, state, stored_at, decision)
select $1, g.id, g.agent_id, $2, g.insight, g.label, g.tags::text[], g.evidence_refs::text[], g.sentiment, g.priority,
       g.governance::jsonb, g.metadata::jsonb, g.memory_id, $3, case when $3 = 'stored' then now() end,
       case when $3 = 'stored' then 'new' end
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
update insights set state = 'stored', stored_at = now(), decision = 'new'
 where project_id = $1 and id = any($2::uuid[]) and state = 'accepted';

-- name: settle_insights
-- Decide about insights that were just written down: returns those that become no memory of their own.
select insight_id, decision, memory_id, supports
  from settle_insights($1::uuid[], $2::text[], $3::uuid[], $4::bytea[], $5::uuid[], $6::bytea[],
                       make_interval(secs => $7));

-- name: weigh_insights
-- What would be decided about insights, writing nothing.
select insight_id, decision, memory_id, supports
  from weigh_insights($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::uuid[], $6::bytea[], make_interval(secs => $7));

-- name: give_back_quotas
-- What was taken at acceptance for memories that are not made.
select give_back_quotas($1, $2);

-- name: note_recalled
-- These memories were recalled to an agent: their words do not come back as news for a while.
insert into recalls (project_id, fingerprint, agent, memory_id)
select distinct on (g.fingerprint) $1, g.fingerprint, $2, g.memory_id
  from unnest($3::bytea[], $4::uuid[]) as g (fingerprint, memory_id)
 order by g.fingerprint
on conflict (project_id, fingerprint, agent) do update set at = now(), memory_id = excluded.memory_id;

-- name: forget_recalls
-- Forget what was recalled more than a day ago, in whichever project; returns how many, at most $1.
select forget_recalls($1);

-- name: hold_memories
-- Where memories stand on their way to a vector; they stay there until this transaction ends. Whoever else is at one of
-- them is not waited for: it may be waiting for us.
select m.id, m.embedding_state, m.embedding_reason
  from (select distinct id from unnest($2::uuid[]) as w (id) order by id offset 0) w
 cross join lateral (select x.id, x.embedding_state, x.embedding_reason from memories x
                      where x.project_id = $1 and x.id = w.id limit 1 for share skip locked) m;

-- name: wait_for_memories
-- Where memories stand on their way to a vector, once whoever is at one of them has finished.
select m.id, m.embedding_state, m.embedding_reason
  from (select distinct id from unnest($2::uuid[]) as w (id) order by id offset 0) w
 cross join lateral (select x.id, x.embedding_state, x.embedding_reason from memories x
                      where x.project_id = $1 and x.id = w.id limit 1 for share) m;

-- name: list_insights
-- A page of the insights the caller may read, newest first, and where it ended if it was cut short.
select l.over, (l.entry).id, (l.entry).agent_id, (l.entry).insight, (l.entry).label, (l.entry).tags,
       (l.entry).evidence_refs, (l.entry).sentiment, (l.entry).support_count, (l.entry).priority, (l.entry).governance,
       (l.entry).metadata, (l.entry).memory_id, (l.entry).state, (l.entry).reason, (l.entry).decision,
       (l.entry).decided_because, (l.entry).supports, (l.entry).accepted_at, (l.entry).stored_at
  from list_insights($1, $2, $3, $4, $5, $6, $7, $8) l;

-- name: read_insights
-- Insights by id, as far as the caller may read them.
select i.id, i.agent_id, i.insight, i.label, i.tags, i.evidence_refs, i.sentiment, i.support_count, i.priority,
       i.governance, i.metadata, i.memory_id, i.state, i.reason, i.decision, i.decided_because, i.supports,
       i.accepted_at, i.stored_at
  from read_insights($1::uuid[]) i;

-- name: support_insight
-- Say that an insight holds, once a principal; false where the caller may read none of this id.
select support_insight($1, $2::text[], $3);

-- name: link_insight
-- Let an insight belong to another memory, which the caller may read and change. Returns whether the memory is such a
-- one, and whether the insight could be linked.
with target as materialized (
  select id from memories m where m.project_id = $1 and m.id = $3 for no key update
), linked as (
  update insights i set memory_id = t.id from target t
   where i.project_id = $1 and i.id = $2 and i.state = 'stored'
  returning i.id
)
select exists (select from target) as writable, exists (select from linked) as linked;

-- name: accept_conversation
-- Write messages down once, put them in the line for ingestion, and take from the project's quotas what they need if each
-- becomes an insight as it is. Returns its time if it is new, and the resource there is not enough of, if any.
with kept as (
  insert into conversations (project_id, id, agent_id, messages, said, state)
  values ($1, $2, $3, $4::jsonb, $5::jsonb, 'accepted')
  on conflict (project_id, id) do nothing
  returning id, accepted_at
), queued as (
  insert into work_queue (kind, project_id, item_id) select 'conversation', $1, id from kept on conflict do nothing
)
select accepted_at,
       take_quotas(array['insights_per_day', 'memories', 'bytes'], array[$6::bigint, $6::bigint, $7::bigint]) as refused
  from kept;

-- name: read_conversation
-- A conversation that still waits to become insights.
select agent_id, messages, said, accepted_at
  from conversations where project_id = $1 and id = $2 and state = 'accepted';

-- name: mark_conversation_stored
-- A conversation's messages are insights now: what they said is kept there and nowhere else.
update conversations
   set state = 'stored', stored_at = now(), messages = null, said = '{}', how = $3, reason = $4, insight_ids = $5::uuid[]
 where project_id = $1 and id = $2 and state = 'accepted';

-- name: mark_conversation_parked
-- A conversation was set aside, with the reason; its messages stay.
update conversations set state = 'parked', reason = $3 where project_id = $1 and id = $2 and state = 'accepted';

-- name: read_conversation_fates
-- What became of conversations.
select c.id, c.state, c.how, c.reason, c.insight_ids, c.accepted_at, c.stored_at
  from unnest($2::uuid[]) with ordinality as w (id, place)
 cross join lateral (select x.id, x.state, x.how, x.reason, x.insight_ids, x.accepted_at, x.stored_at
                       from conversations x where x.project_id = $1 and x.id = w.id limit 1) c
 order by w.place;

-- name: nearest_insight
-- Of the memories that insights became, the one nearest in meaning to this one, its vector exactly compared with the 200
-- that are nearest by their one-bit codes among the newest 100,000, where both are as they came and open to the same
-- readers; and the project's threshold. What was redacted is near to nothing: different secrets leave the same words.
with me as (
  select m.id, m.created_by, m.audience, m.governance, v.generation, v.embedding, p.near_duplicates
    from (select x.id, x.created_by, x.audience, x.governance from memories x
           where x.project_id = $1 and x.id = $2 and x.version = 1 and x.embedding_state = 'ready'
             and x.origin like 'insight:%'
             and not (x.governance @> '{"pii_tagged": true}'
                      and exists (select from insights i where i.project_id = $1 and i.memory_id = x.id
                                     and i.insight ~ '\[redacted:[a-z_:]+\]')) limit 1) m
   cross join lateral (
     select x.generation, x.embedding
       from embedding_models g
      cross join lateral (select y.generation, y.embedding from memory_vectors y
                           where y.project_id = $1 and y.generation = g.generation and y.memory_id = m.id limit 1) x
      where g.current) v
   cross join projects p
   where p.id = $1 and p.near_duplicates is not null
), rough as (
  select s.memory_id, me.id as own
    from me
   cross join lateral (
     select c.memory_id
       from (select x.memory_id, x.bits from memory_vectors x
              where x.project_id = $1 and x.generation = me.generation and x.memory_id <> me.id
              order by x.memory_id desc limit 100000) c
      order by c.bits operator(public.<~>) public.binary_quantize(me.embedding) limit 200) s
)
select m.id, (1 - (v.embedding operator(public.<=>) me.embedding))::float8 as similarity, me.near_duplicates as threshold
  from rough
  join me on me.id = rough.own
 cross join lateral (select x.embedding from memory_vectors x
                      where x.project_id = $1 and x.generation = me.generation and x.memory_id = rough.memory_id limit 1) v
 cross join lateral (select x.id from memories x
                      where x.project_id = $1 and x.id = rough.memory_id and x.version = 1 and x.origin like 'insight:%'
                        and not (x.governance @> '{"pii_tagged": true}'
                                 and exists (select from insights i where i.project_id = $1 and i.memory_id = x.id
                                                and i.insight ~ '\[redacted:[a-z_:]+\]'))
                        and access_of(x.governance) = access_of(me.governance)
                        and (x.audience <= 1 and me.audience <= 1 or x.created_by = me.created_by) limit 1) m
 order by similarity desc, m.id limit 1;

-- name: read_makers
-- The insights that became these memories, in the order they were kept.
select m.id, i.id as insight_id
  from unnest($2::uuid[]) as w (id)
 cross join lateral (select x.id, x.origin, x.stored_at from memories x where x.project_id = $1 and x.id = w.id limit 1) m
 cross join lateral (select x.id from insights x
                      where x.project_id = $1 and x.id = substr(m.origin, 9)::uuid limit 1) i
 where m.origin ~ '^insight:[0-9a-f-]{36}$'
 order by m.stored_at, m.id;

-- name: hold_words
-- What the words of two memories are known by, and then the insights that brought them, held until this transaction ends:
-- in this order everywhere, and after the memories.
with prints as materialized (
  select fingerprint from insight_fingerprints
   where project_id = $1 and memory_id = any(array[$2::uuid, $3::uuid]) order by fingerprint for update
)
select i.id from (select count(*) from prints) held
 cross join (select id from unnest(array[$4::uuid, $5::uuid]) as w (id) order by id offset 0) w
 cross join lateral (select x.id from insights x where x.project_id = $1 and x.id = w.id limit 1 for update) i;

-- name: hold_pair
-- Two memories, held until this transaction ends, if both are still as they came: neither frozen nor held, not over, with
-- nothing derived from the second.
select m.id, m.origin
  from (select id from unnest(array[$2::uuid, $3::uuid]) as w (id) order by id offset 0) w
 cross join lateral (select x.* from memories x where x.project_id = $1 and x.id = w.id limit 1 for update) m
 where m.version = 1 and not m.frozen and not m.legal_hold and m.lifecycle not in ('ARCHIVED', 'EXPIRED')
   and m.trust <> 'quarantined' and (m.expires_at is null or m.expires_at > now()) and m.type = 'PLAINTEXT'
   and not exists (select from memory_parents c where c.project_id = $1 and c.parent_id = $3)
 order by m.id;

-- name: merge_insights
-- The insights of memory $3 belong to memory $2 from now on, and their support to insight $4; the one that made memory $3
-- says why.
with moved as (
  update insights i
     set memory_id = $2,
         decision = case when i.id = $5 then 'near_duplicate' else i.decision end,
         decided_because = case when i.id = $5 then $6 else i.decided_because end,
         supports = $4
   where i.memory_id = $3 and i.project_id = $1
  returning i.id, i.support_count, i.via, i.agent_id
), raised as (
  update insights i set support_count = i.support_count + m.many
    from (select sum(support_count) filter (where id = $5) as many from moved) m
   where i.project_id = $1 and i.id = $4 and m.many is not null
)
select id, agent_id, via from moved;

-- name: mark_parked
-- This insight was set aside, with the reason.
update insights set state = 'parked', reason = $3
 where project_id = $1 and id = $2 and state = 'accepted';

-- name: bus_senders
-- Who sent the insights behind these memories over NATS and waits to hear of them.
select i.id, i.agent_id, i.memory_id, i.decision, i.decided_because, i.supports
  from unnest($2::uuid[]) as w (id)
 cross join lateral (select * from insights x where x.project_id = $1 and x.memory_id = w.id and x.via = 'nats') i;

-- name: announce_receipts
-- Tell agents what became of insights they sent over NATS.
select announce_receipts($1, $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::jsonb[]);

-- name: read_receipts
-- The fate of writes: of insights by their own id, of memories written directly by theirs. (A `case`, because under a
-- policy Postgres takes `coalesce` for leaky and would not look the id up by its index.)
select w.id, i.memory_id, coalesce(i.state, 'stored') as state, i.reason, i.accepted_at, i.decision, i.decided_because,
       i.supports,
       coalesce(i.stored_at, m.stored_at) as stored_at, m.id is not null as memory_exists,
       m.embedding_state, m.embedding_reason, m.embedded_at, i.id is not null as is_insight
  from unnest($2::uuid[]) with ordinality as w (id, place)
  left join lateral (select * from insights x where x.project_id = $1 and x.id = w.id limit 1) i on true
  left join lateral (select * from memories x
                      where x.project_id = $1
                        and x.id = case when i.id is null then w.id else i.memory_id end limit 1) m on true
 where i.id is not null or m.id is not null
 order by w.place;
