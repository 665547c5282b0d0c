-- migrate:up

-- What becomes of an insight is decided by the database: the same words are kept once, what was recalled lately is not
-- learned again, and what nearly says the same is compared after it got its vector (docs/adr/0017).
alter table memcube.insights
  add column decision        text check (decision in ('new', 'duplicate', 'near_duplicate', 'echo')),
  add column decided_because text,
  add column supports        uuid;
comment on column memcube.insights.decision is 'null until it is decided.';
comment on column memcube.insights.supports is 'The insight that got its support instead of a memory of its own.';

-- Newest first for one memory, without a sort.
drop index memcube.insights_memory;
create index insights_memory on memcube.insights (memory_id, project_id, id);

-- ── tables ─────────────────────────────────────────────────────────────────────────────────────────

-- Which memory holds these words, in this scope. The primary key decides, whoever comes first and however many at once.
create table memcube.insight_fingerprints (
  project_id  text not null,
  fingerprint bytea not null check (length(fingerprint) = 32),
  insight_id  uuid not null,
  memory_id   uuid not null,
  primary key (project_id, fingerprint)
) with (fillfactor = 90);
create index insight_fingerprints_memory on memcube.insight_fingerprints (memory_id, project_id);
comment on table memcube.insight_fingerprints is 'SHA-256 of normalised words and their scope (insights/domain.py); gone with the memory.';

-- What was told to whom lately: its words do not come back as news.
create table memcube.recalls (
  project_id  text not null,
  fingerprint bytea not null check (length(fingerprint) = 32),
  agent       text not null,
  memory_id   uuid not null,
  at          timestamptz not null default now(),
  primary key (project_id, fingerprint, agent)
) with (fillfactor = 70);
create index recalls_age on memcube.recalls (at);
create index recalls_memory on memcube.recalls (memory_id, project_id);

-- Who has said that an insight holds: each principal once.
create table memcube.insight_supports (
  project_id    text not null,
  insight_id    uuid not null,
  principal     text not null,
  evidence_refs text[] not null default '{}',
  sentiment     real check (sentiment between -1 and 1),
  at            timestamptz not null default now(),
  primary key (project_id, insight_id, principal)
);

-- Messages that wait to become insights. They are blanked in the transaction that keeps what they say.
create table memcube.conversations (
  project_id  text not null,
  id          uuid not null,
  agent_id    text not null,
  messages    jsonb,
  said        jsonb not null,
  state       text not null check (state in ('accepted', 'stored', 'parked')),
  how         text check (how in ('extracted', 'as_they_are')),
  reason      text,
  insight_ids uuid[] not null default '{}',
  accepted_at timestamptz not null default now(),
  stored_at   timestamptz,
  primary key (project_id, id),
  check (state = 'stored' or messages is not null)
);
comment on column memcube.conversations.said is 'What was sent beside the messages and goes with each insight: tags, governance, metadata, priority.';

alter table memcube.work_queue drop constraint work_queue_kind_check;
alter table memcube.work_queue add constraint work_queue_kind_check
  check (kind in ('insight', 'embedding', 'duplicate', 'conversation'));

-- ── what becomes of an insight ─────────────────────────────────────────────────────────────────────

-- What of governance two memories need in common for one to stand for the other: who may read and how long it lives, not
-- the marks that are set on one of them afterwards.
create function memcube.access_of(p_governance jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select p_governance - array['frozen', 'legal_hold', 'pin', 'pii_tagged', 'pii_kinds']
$$;

-- Whether a memory still says the words it came with, to whoever `p_governance` lets in.
create function memcube.holds_words(p_memory uuid, p_governance jsonb) returns boolean
language sql stable set search_path = '' as $$
  select exists (select from memcube.memories m
                  where m.project_id = pg_catalog.current_setting('app.project_id', true) and m.id = p_memory
                    and m.lifecycle not in ('ARCHIVED', 'EXPIRED') and m.trust <> 'quarantined'
                    and (m.expires_at is null or m.expires_at > pg_catalog.now()) and m.content_version = 1
                    and memcube.access_of(m.governance) = memcube.access_of(p_governance))
$$;

-- Which insights only repeat what was recalled: each of their parts was, within `p_within`, to their own sender, or is
-- open to all members and agents. Of what others were told and the sender may not read, nothing is said.
create function memcube.echoes(p_ids uuid[], p_agents text[], p_part_of uuid[], p_parts bytea[], p_within interval)
returns table (insight_id uuid, memory_id uuid)
language plpgsql stable set search_path = '' as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  if not exists (select from memcube.recalls r where r.project_id = project) then
    return;
  end if;
  return query
  select i.id, (pg_catalog.array_agg(r.memory_id order by w.place))[1]
    from unnest(p_part_of, p_parts) with ordinality as w (id, part, place)
    join unnest(p_ids, p_agents) as i (id, agent) on i.id = w.id
    left join lateral (
      select x.memory_id from memcube.recalls x
       cross join lateral (select y.audience from memcube.memories y
                            where y.project_id = project and y.id = x.memory_id
                              and y.lifecycle not in ('ARCHIVED', 'EXPIRED') and y.trust <> 'quarantined'
                              and (y.expires_at is null or y.expires_at > pg_catalog.now())
                              and y.updated_at <= x.at   -- it still says what was recalled
                            limit 1) m
       where x.project_id = project and x.fingerprint = w.part and x.at > pg_catalog.now() - p_within
         and (x.agent = i.agent or m.audience <= 1)
       order by x.at desc limit 1) r on true
   group by i.id having pg_catalog.bool_and(r.memory_id is not null);
end $$;

-- Decide about insights that were just written down or wait as accepted, by the worker that makes their memories in the
-- same transaction: returns those that become none, the others are new. Words first come, first kept, in the order of
-- fingerprints, so that two who bring the same wait for each other and never deadlock; what a memory that is gone,
-- changed or closed held goes to the newcomer. The same insight never comes here twice: its caller found it new.
create function memcube.settle_insights(
  p_ids uuid[], p_agents text[], p_memories uuid[], p_prints bytea[], p_part_of uuid[], p_parts bytea[], p_within interval)
returns table (insight_id uuid, decision text, memory_id uuid, supports uuid)
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  project text := pg_catalog.current_setting('app.project_id');
  echoed uuid[];
  echoed_from uuid[];
  open_ones uuid[];    -- not decided yet
  taken bytea[] := '{}';  -- words that this transaction holds
  first bytea[];
  firsts uuid[];
  one record;
  print bytea;
  holder uuid;
  held uuid;
  repeated uuid[] := '{}';
  repeated_by uuid[] := '{}';
  repeated_in uuid[] := '{}';
begin
  select coalesce(pg_catalog.array_agg(e.insight_id), '{}'), coalesce(pg_catalog.array_agg(e.memory_id), '{}')
    into echoed, echoed_from from memcube.echoes(p_ids, p_agents, p_part_of, p_parts, p_within) e;
  open_ones := case echoed when '{}' then p_ids else array(select unnest(p_ids) except select unnest(echoed)) end;

  -- Once, but for words that were forgotten while they were waited for: those are tried for again.
  for round in 1 .. 8 loop
    with given as (
      insert into memcube.insight_fingerprints as f (project_id, fingerprint, insight_id, memory_id)
      select project, g.print, g.id, g.memory
        from (select distinct on (u.print) u.print, u.id, u.memory
                from unnest(p_ids, p_memories, p_prints) as u (id, memory, print)
               where u.id = any (open_ones) order by u.print, u.id) g
       order by g.print
      on conflict do nothing
      returning f.fingerprint, f.insight_id
    )
    select coalesce(pg_catalog.array_agg(given.fingerprint), '{}'), coalesce(pg_catalog.array_agg(given.insight_id), '{}')
      into first, firsts from given;
    exit when pg_catalog.cardinality(firsts) = pg_catalog.cardinality(open_ones);
    taken := taken || first;
    open_ones := array(select unnest(open_ones) except select unnest(firsts));
    firsts := '{}';
    print := null;
    for one in
      select g.id, g.memory, g.print, f.insight_id as holder, f.memory_id as held
        from (select u.id, u.memory, u.print from unnest(p_ids, p_memories, p_prints) as u (id, memory, print)
               where u.id = any (open_ones) order by u.print, u.id offset 0) g
       cross join lateral (select x.insight_id, x.memory_id from memcube.insight_fingerprints x
                            where x.project_id = project and x.fingerprint = g.print limit 1 for update) f
    loop
      firsts := firsts || one.id;
      if print is distinct from one.print then
        print := one.print;
        holder := one.holder;
        held := one.held;
        if not print = any (taken) and not memcube.holds_words(held, (
             select i.governance from memcube.insights i where i.project_id = project and i.id = one.id)) then
          update memcube.insight_fingerprints f set insight_id = one.id, memory_id = one.memory
           where f.project_id = project and f.fingerprint = print;
          holder := one.id;
          held := one.memory;
          taken := taken || print;
        end if;
      end if;
      if holder <> one.id then
        repeated := repeated || one.id;
        repeated_by := repeated_by || holder;
        repeated_in := repeated_in || held;
      end if;
    end loop;
    open_ones := array(select unnest(open_ones) except select unnest(firsts));
    exit when open_ones = '{}';
  end loop;

  -- Row by row: a project that is not in the statistics yet is taken for one row, and would be read as a whole.
  for one in
    select h.id, pg_catalog.count(*)::int as many from unnest(repeated_by) h (id) group by h.id order by h.id
  loop
    update memcube.insights i set support_count = i.support_count + one.many
     where i.project_id = project and i.id = one.id;
  end loop;
  for insight_id, decision, memory_id, supports in
    select d.id, 'duplicate', d.held, d.holder
      from unnest(repeated, repeated_in, repeated_by) as d (id, held, holder)
    union all
    select e.id, 'echo', e.held, null from unnest(echoed, echoed_from) as e (id, held)
  loop
    update memcube.insights i
       set state = 'stored', stored_at = coalesce(i.stored_at, pg_catalog.now()), decision = settle_insights.decision,
           memory_id = settle_insights.memory_id, supports = settle_insights.supports,
           decided_because = case settle_insights.decision
             when 'echo' then 'memory ' || settle_insights.memory_id || ' was recalled with these words'
             else 'same words as insight ' || settle_insights.supports end
     where i.project_id = project and i.id = settle_insights.insight_id;
    return next;
  end loop;
end $$;

-- What would become of insights, said to who would send them: over memories they may read, and nothing is written.
create function memcube.weigh_insights(
  p_ids uuid[], p_agents text[], p_prints bytea[], p_governance text[], p_part_of uuid[], p_parts bytea[], p_within interval)
returns table (insight_id uuid, decision text, memory_id uuid, supports uuid)
language plpgsql stable security definer rows 20 set search_path = '' as $$
#variable_conflict use_column
declare
  project text := pg_catalog.current_setting('app.project_id');
  echoed uuid[];
begin
  if pg_catalog.current_setting('app.role', true) not in ('OWNER', 'ADMIN', 'SERVICE', 'MEMBER', 'AGENT') then
    return;
  end if;
  for insight_id, decision, memory_id, supports in
    select e.insight_id, 'echo', e.memory_id, null::uuid
      from memcube.echoes(p_ids, p_agents, p_part_of, p_parts, p_within) e
     where exists (select from memcube.memories m where m.project_id = project and m.id = e.memory_id)
  loop
    echoed := echoed || insight_id;
    return next;
  end loop;
  return query
  select g.id, 'duplicate'::text, f.memory_id, f.insight_id
    from unnest(p_ids, p_prints, p_governance) as g (id, print, governance)
   cross join lateral (select x.memory_id, x.insight_id from memcube.insight_fingerprints x
                        where x.project_id = project and x.fingerprint = g.print limit 1) f
   where not g.id = any (coalesce(echoed, '{}')) and memcube.holds_words(f.memory_id, g.governance::jsonb);
end $$;

-- What was taken for memories that are not made is given back.
create function memcube.give_back_quotas(p_memories bigint, p_bytes bigint) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if p_memories < 0 or p_bytes < 0 then
    raise invalid_parameter_value using message = 'nothing can be given back in the negative';
  end if;
  perform memcube.take_quota('memories', -p_memories), memcube.take_quota('bytes', -p_bytes);
end $$;

-- As before, and what was decided about each, where that is known: decision, decided_because, supports.
grant create on schema memcube to memcube_feed;
set local role memcube_feed;
drop function memcube.announce_receipts(text, text[], uuid[], uuid[], text[]);
create function memcube.announce_receipts(
  p_type text, p_agents text[], p_receipts uuid[], p_memories uuid[], p_reasons text[], p_decided jsonb[] default null)
returns void language plpgsql security definer set search_path = '' as $$
begin
  perform memcube.enter_feed();
  insert into memcube.changes (project_id, type, agent, body)
  select pg_catalog.current_setting('app.project_id'), p_type, agent, pg_catalog.jsonb_strip_nulls(
           pg_catalog.jsonb_build_object('receipt_id', receipt, 'memory_id', memory, 'agent', agent, 'reason', reason)
           || coalesce(decided, '{}'))
    from unnest(p_agents, p_receipts, p_memories, p_reasons, p_decided)
      as given (agent, receipt, memory, reason, decided);
end $$;
revoke execute on function memcube.announce_receipts(text, text[], uuid[], uuid[], text[], jsonb[]) from public;
grant execute on function memcube.announce_receipts(text, text[], uuid[], uuid[], text[], jsonb[]) to memcube_worker;
reset role;
revoke create on schema memcube from memcube_feed;

-- Forget what was recalled more than a day ago, in whichever project; how many, at most p_limit.
create function memcube.forget_recalls(p_limit int) returns int
language plpgsql security definer set search_path = '' as $$
declare
  forgotten int;
begin
  delete from memcube.recalls r
   using (select o.project_id, o.fingerprint, o.agent from memcube.recalls o
           where o.at < pg_catalog.now() - interval '24 hours' order by o.at limit p_limit) o
   where r.project_id = o.project_id and r.fingerprint = o.fingerprint and r.agent = o.agent
     and r.at < pg_catalog.now() - interval '24 hours';
  get diagnostics forgotten = row_count;
  return forgotten;
end $$;

-- A memory that an insight became has its vector: where the project asks for it, it is compared with its neighbours.
create function memcube.on_insight_embedded() returns trigger
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan as $$
begin
  insert into memcube.work_queue (kind, project_id, item_id)
  select 'duplicate', new.project_id, new.id from memcube.projects p
   where p.id = new.project_id and p.near_duplicates is not null
  on conflict do nothing;
  return null;
end $$;
create trigger e_compare after update of embedding_state on memcube.memories
  for each row when (new.embedding_state = 'ready' and old.embedding_state <> 'ready' and new.version = 1
                     and new.origin like 'insight:%')
  execute function memcube.on_insight_embedded();

-- With a memory goes what its words are known by, and what was said in its support.
create function memcube.on_words_forgotten() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project_before text := coalesce(pg_catalog.current_setting('app.project_id', true), '');
  project text;
  gone uuid[];
begin
  for project, gone in
    select b.project_id, pg_catalog.array_agg(b.id order by b.id) from before_rows b group by b.project_id order by b.project_id
  loop
    perform pg_catalog.set_config('app.project_id', project, true);
    delete from memcube.insight_fingerprints f where f.project_id = project and f.memory_id = any (gone);
    perform from memcube.insights i where i.memory_id = any (gone) and i.project_id = project order by i.id for update;
    delete from memcube.recalls r where r.project_id = project and r.memory_id = any (gone);
    update memcube.insight_supports s set evidence_refs = '{}'
      from memcube.insights i
     where i.project_id = project and i.memory_id = any (gone)
       and s.project_id = project and s.insight_id = i.id and s.evidence_refs <> '{}';
  end loop;
  perform pg_catalog.set_config('app.project_id', project_before, true);
  return null;
end $$;
-- Named so that it comes first: fingerprints are held before insights, and both before quotas, everywhere.
create trigger a_words_forgotten after delete on memcube.memories
  referencing old table as before_rows for each statement execute function memcube.on_words_forgotten();

-- ── what a reader gets of insights ─────────────────────────────────────────────────────────────────

-- Whether the caller may read an insight: it is theirs, they are privileged, or they may read the memory it belongs to.
-- An echo may hold the words of several memories: it is its sender's own.
create function memcube.may_read_insight(p_agent text, p_memory uuid, p_decision text) returns boolean
language sql stable set search_path = '' as $$
  select p_agent = pg_catalog.current_setting('app.principal', true)
      or pg_catalog.current_setting('app.role', true) in ('OWNER', 'ADMIN', 'SERVICE')
      or p_decision is distinct from 'echo'
         and exists (select from memcube.memories m
                      where m.project_id = pg_catalog.current_setting('app.project_id', true) and m.id = p_memory)
$$;

-- Insights of these ids that the caller may read.
create function memcube.read_insights(p_ids uuid[]) returns setof memcube.insights
language plpgsql stable security definer rows 20 set search_path = '' as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return query
  select i.* from unnest(p_ids) w (id)
   cross join lateral (select x.* from memcube.insights x where x.project_id = project and x.id = w.id limit 1) i
   where memcube.may_read_insight(i.agent_id, i.memory_id, i.decision);
end $$;

-- Insights the caller may read, newest first, below `p_below`; a filter that is null takes all. At most `p_looked` are
-- looked at: where that ends the page, a last row says so, with the id where it ended and nothing else.
create function memcube.list_insights(
  p_agent text, p_tag text, p_state text, p_memory uuid, p_min_support int, p_below uuid, p_limit int, p_looked int)
returns table (entry memcube.insights, over boolean)
language plpgsql stable security definer rows 50 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  near refcursor;
  last uuid;
  shown int := 0;
  looked int := 0;
begin
  over := false;
  if p_memory is not null then
    open near for select i.* from memcube.insights i
      where i.memory_id = p_memory and i.project_id = project and i.id < p_below order by i.id desc;
  else
    open near for select i.* from memcube.insights i
      where i.project_id = project and i.id < p_below order by i.id desc;
  end if;
  loop
    fetch near into entry;
    exit when not found;
    looked := looked + 1;
    if (p_agent is null or entry.agent_id = p_agent) and (p_tag is null or entry.tags @> array[p_tag])
       and (p_state is null or entry.state = p_state) and (p_min_support is null or entry.support_count >= p_min_support)
       and memcube.may_read_insight(entry.agent_id, entry.memory_id, entry.decision) then
      shown := shown + 1;
      return next;
      exit when shown = p_limit;
    end if;
    if looked = p_looked then
      last := entry.id;
      entry := null;
      entry.id := last;
      over := true;
      return next;
      exit;
    end if;
  end loop;
  close near;
end $$;

-- Say that an insight holds, once a principal; false where there is none that the caller may read.
create function memcube.support_insight(p_insight uuid, p_evidence text[], p_sentiment real) returns boolean
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  said record;
begin
  if pg_catalog.current_setting('app.role', true) not in ('OWNER', 'ADMIN', 'SERVICE', 'MEMBER', 'AGENT') then
    return false;
  end if;
  select i.agent_id, i.memory_id, i.decision into said from memcube.insights i
   where i.project_id = project and i.id = p_insight;
  if not found or not memcube.may_read_insight(said.agent_id, said.memory_id, said.decision) then
    return false;
  end if;
  insert into memcube.insight_supports (project_id, insight_id, principal, evidence_refs, sentiment)
  values (project, p_insight, pg_catalog.current_setting('app.principal'), p_evidence, p_sentiment)
  on conflict (project_id, insight_id, principal) do nothing;
  if found then
    update memcube.insights set support_count = support_count + 1 where project_id = project and id = p_insight;
  end if;
  return true;
end $$;

-- ── owners of the definer functions ────────────────────────────────────────────────────────────────

-- Before they change hands: afterwards a revoke by memcube_owner would change nothing, quietly.
revoke execute on function
  memcube.access_of(jsonb), memcube.holds_words(uuid, jsonb),
  memcube.echoes(uuid[], text[], uuid[], bytea[], interval),
  memcube.settle_insights(uuid[], text[], uuid[], bytea[], uuid[], bytea[], interval),
  memcube.weigh_insights(uuid[], text[], bytea[], text[], uuid[], bytea[], interval),
  memcube.give_back_quotas(bigint, bigint), memcube.forget_recalls(int), memcube.on_insight_embedded(), memcube.on_words_forgotten(),
  memcube.may_read_insight(text, uuid, text), memcube.read_insights(uuid[]),
  memcube.list_insights(text, text, text, uuid, int, uuid, int, int),
  memcube.support_insight(uuid, text[], real) from public;
grant execute on function memcube.access_of(jsonb), memcube.holds_words(uuid, jsonb),
  memcube.echoes(uuid[], text[], uuid[], bytea[], interval) to memcube_worker, memcube_search;
grant execute on function memcube.may_read_insight(text, uuid, text) to memcube_search;
grant execute on function
  memcube.settle_insights(uuid[], text[], uuid[], bytea[], uuid[], bytea[], interval),
  memcube.give_back_quotas(bigint, bigint), memcube.forget_recalls(int) to memcube_worker;
grant execute on function
  memcube.weigh_insights(uuid[], text[], bytea[], text[], uuid[], bytea[], interval), memcube.read_insights(uuid[]),
  memcube.list_insights(text, text, text, uuid, int, uuid, int, int),
  memcube.support_insight(uuid, text[], real) to memcube_user;

grant create on schema memcube to memcube_search, memcube_governor, memcube_quota, memcube_dispatch;
alter function memcube.weigh_insights(uuid[], text[], bytea[], text[], uuid[], bytea[], interval) owner to memcube_search;
alter function memcube.read_insights(uuid[]) owner to memcube_search;
alter function memcube.list_insights(text, text, text, uuid, int, uuid, int, int) owner to memcube_search;
alter function memcube.support_insight(uuid, text[], real) owner to memcube_search;
alter function memcube.on_words_forgotten() owner to memcube_governor;
alter function memcube.give_back_quotas(bigint, bigint) owner to memcube_quota;
alter function memcube.forget_recalls(int) owner to memcube_dispatch;
revoke create on schema memcube from memcube_search, memcube_governor, memcube_quota, memcube_dispatch;

-- ── grants and policies ────────────────────────────────────────────────────────────────────────────

grant select, insert, update on memcube.insight_fingerprints to memcube_worker;
grant select on memcube.insight_fingerprints, memcube.recalls to memcube_search;
grant select, delete on memcube.insight_fingerprints, memcube.recalls to memcube_governor;
grant select, insert, update on memcube.recalls to memcube_worker;
grant select, delete on memcube.recalls to memcube_dispatch;
grant select (project_id, insight_id, principal), insert on memcube.insight_supports to memcube_search;
grant select (project_id, insight_id, evidence_refs), update (evidence_refs) on memcube.insight_supports to memcube_governor;
grant select (project_id, id, memory_id, decision) on memcube.insights to memcube_governor;
grant select, update (support_count) on memcube.insights to memcube_search;
grant update (memory_id) on memcube.insights to memcube_user;
grant select, update on memcube.conversations to memcube_worker;
grant select on memcube.memory_parents to memcube_worker;
grant select (project_id, id, agent_id, state, how, reason, insight_ids, accepted_at, stored_at), insert
  on memcube.conversations to memcube_user;

do $$
declare
  t text;
  grant_of text[];
  command text;
  own constant text := 'project_id = current_setting(''app.project_id'', true)';
begin
  foreach t in array array['insight_fingerprints', 'recalls', 'insight_supports', 'conversations'] loop
    execute format('alter table memcube.%I enable row level security', t);
    execute format('alter table memcube.%I force row level security', t);
  end loop;
  foreach grant_of slice 1 in array array[
    ['insight_fingerprints', 'memcube_worker', 'select insert update'],
    ['insight_fingerprints', 'memcube_search', 'select'],
    ['insight_fingerprints', 'memcube_governor', 'select delete'],
    ['recalls', 'memcube_worker', 'select insert update'],
    ['recalls', 'memcube_search', 'select'],
    ['recalls', 'memcube_governor', 'select delete'],
    ['insight_supports', 'memcube_search', 'select insert'],
    ['insight_supports', 'memcube_governor', 'select update'],
    ['insights', 'memcube_search', 'select update'],
    ['memory_parents', 'memcube_worker', 'select'],
    ['conversations', 'memcube_worker', 'select update']
  ] loop
    foreach command in array string_to_array(grant_of[3], ' ') loop
      execute format('create policy %s on memcube.%I for %s to %I %s',
        replace(grant_of[2], 'memcube_', '') || '_' || command, grant_of[1], command, grant_of[2],
        case command when 'insert' then format('with check (%s)', own)
                     when 'update' then format('using (%s) with check (%s)', own, own)
                     else format('using (%s)', own) end);
    end loop;
  end loop;
end $$;

-- A recall is forgotten by age, in whichever project.
create policy dispatch_select on memcube.recalls for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:ingestion' and at < now() - interval '24 hours');
create policy dispatch_delete on memcube.recalls for delete to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:ingestion' and at < now() - interval '24 hours');

-- An insight is linked to another memory by its sender and by the privileged; which memory, the statement asks.
create policy sender_update on memcube.insights for update to memcube_user
  using (project_id = current_setting('app.project_id', true)
         and (current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
              or current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])
                 and agent_id = current_setting('app.principal', true)))
  with check (project_id = current_setting('app.project_id', true));

-- A conversation is its sender's own.
create policy sender_select on memcube.conversations for select to memcube_user
  using (project_id = current_setting('app.project_id', true)
         and (current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
              or agent_id = current_setting('app.principal', true)));
create policy sender_insert on memcube.conversations for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true)
              and (current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
                   or current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])
                      and agent_id = current_setting('app.principal', true)));

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
