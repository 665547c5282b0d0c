-- migrate:up

-- Who may read and write a memory, as real columns kept by the database, so that a policy compares columns with
-- settings and never looks anything up. `governance` is what applies; where that is stricter than what was stated,
-- because the memory was derived from others, the statement is kept in `governance_own`.
alter table memcube.memories
  add column governance_own jsonb,
  add column read_roles  text[] not null default '{}',
  add column write_roles text[] not null default '{}',
  add column let_in      text[] not null default '{}',
  add column denied      text[] not null default '{}',
  add column visibility  text not null default 'private' check (visibility in ('private', 'project', 'public')),
  add column expires_at  timestamptz,
  add column frozen      boolean not null default false,
  add column legal_hold  boolean not null default false,
  add column audit_reads boolean not null default false,
  add column audience    smallint not null default 2 check (audience between 0 and 2);
comment on column memcube.memories.let_in is 'Handles that may read whatever their role: the creator and whom governance allows.';
comment on column memcube.memories.audience is '0: everyone of the project. 1: at least MEMBER and AGENT. 2: restricted.';

-- Candidates are chosen by audience, so that hidden memories do not take the places of visible ones.
alter table memcube.memory_text add column audience smallint not null default 2;
alter table memcube.memory_vectors add column audience smallint not null default 2;

alter table memcube.memory_vectors drop constraint memory_vectors_pkey;
alter table memcube.memory_vectors
  add primary key (project_id, generation, memory_id) include (bits, tags, audience);

-- What was derived from what; empty for memories that stand on their own.
create table memcube.memory_parents (
  project_id text not null,
  parent_id  uuid not null,
  child_id   uuid not null,
  primary key (project_id, parent_id, child_id)
);

-- The audit trail of memories: written by the database, appended to and never changed.
create sequence memcube.memory_events_seq;
create table memcube.memory_events (
  project_id text not null,
  memory_id  uuid not null,
  seq        bigint not null default nextval('memcube.memory_events_seq'),
  kind       text not null check (kind in ('CREATED', 'UPDATED', 'ACCESSED', 'PROMOTED', 'ARCHIVED', 'EXPIRED', 'RESTORED', 'PURGED')),
  version    int not null,
  changed    text[] not null default '{}',
  actor      text not null,
  role       text not null,
  source     text not null,
  at         timestamptz not null default clock_timestamp(),
  primary key (project_id, memory_id, seq)
) partition by hash (project_id);
comment on column memcube.memory_events.source is 'By which credential and from which address; the room where a room did it.';

do $$
begin
  for i in 0..15 loop
    execute format('create table memcube.memory_events_p%s partition of memcube.memory_events for values with (modulus 16, remainder %s)', i, i);
  end loop;
end $$;

-- A change says whom it concerns: `agent` for a receipt, otherwise the readers the memory had at that moment.
alter table memcube.changes
  add column memory_id  uuid,
  add column audience   smallint not null default 1,
  add column visibility text not null default 'project',
  add column read_roles text[] not null default '{MEMBER,AGENT,VIEWER}',
  add column let_in     text[] not null default '{}',
  add column denied     text[] not null default '{}';

-- ── what applies ───────────────────────────────────────────────────────────────────────────────────

create function memcube.texts(p_list jsonb) returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(pg_catalog.array_agg(t), '{}') from pg_catalog.jsonb_array_elements_text(p_list) t
$$;

create function memcube.in_both(a jsonb, b jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(pg_catalog.jsonb_agg(x order by n), '[]')
    from pg_catalog.jsonb_array_elements(a) with ordinality as l (x, n) where b @> x
$$;

create function memcube.in_either(a jsonb, b jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(a, '[]') || coalesce(pg_catalog.jsonb_agg(x order by n), '[]')
    from pg_catalog.jsonb_array_elements(b) with ordinality as l (x, n) where a is null or not a @> x
$$;

-- The strictest union of two governances: whoever either keeps out stays out, whatever either demands is demanded;
-- what one does not say (an administrator's hand) opens nothing.
-- What says how the memory itself is used (ttl of its own, pin, decay, frozen) stays as `a` has it.
create function memcube.strictest(a jsonb, b jsonb) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select a || pg_catalog.jsonb_build_object(
    'read_roles', memcube.in_both(a -> 'read_roles', b -> 'read_roles'),
    'write_roles', memcube.in_both(a -> 'write_roles', b -> 'write_roles'),
    'share_roles', memcube.in_both(a -> 'share_roles', b -> 'share_roles'),
    'principals', pg_catalog.jsonb_build_object(
      'allow', memcube.in_both(a #> '{principals,allow}', b #> '{principals,allow}'),
      'deny', memcube.in_either(a #> '{principals,deny}', b #> '{principals,deny}')),
    'visibility', case when (a ->> 'visibility' = 'public') and (b ->> 'visibility' = 'public') then 'public'
                       when a ->> 'visibility' in ('project', 'public')
                            and b ->> 'visibility' in ('project', 'public') then 'project' else 'private' end,
    'shareable', (a ->> 'shareable')::boolean and (b ->> 'shareable')::boolean,
    'license', case when a -> 'license' = b -> 'license' then a -> 'license' end,
    'on_expire', case when 'purge' in (a ->> 'on_expire', b ->> 'on_expire') then 'purge' else 'archive' end,
    'legal_hold', (a ->> 'legal_hold')::boolean or (b ->> 'legal_hold')::boolean,
    'sensitivity', case when a ->> 'sensitivity' = 'public' and b ->> 'sensitivity' = 'public' then 'public'
                        when a ->> 'sensitivity' in ('internal', 'public')
                             and b ->> 'sensitivity' in ('internal', 'public') then 'internal' else 'confidential' end,
    'pii_tagged', (a ->> 'pii_tagged')::boolean or (b ->> 'pii_tagged')::boolean,
    'pii_kinds', memcube.in_either(a -> 'pii_kinds', b -> 'pii_kinds'),
    'audit_reads', (a ->> 'audit_reads')::boolean or (b ->> 'audit_reads')::boolean)
$$;

-- Before something is derived: its sources stay as they are until it is there to be judged again with them. Without it,
-- a source tightened at this moment and the new child would miss each other.
create function memcube.hold_sources(p_ids uuid[]) returns void
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
begin
  perform from memcube.memories m
    where m.project_id = pg_catalog.current_setting('app.project_id', true) and m.id = any (p_ids) order by m.id for share;
end $$;

-- Before a memory is written: the columns follow from its governance, and what is derived inherits. The parents are
-- read with the writer's rights, so nobody derives from what they may not read. A parent that is gone, or hidden from
-- whoever changes the child, leaves what it demanded in force.
create function memcube.govern_memory() returns trigger
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  applies jsonb := new.governance;
  parent record;
  met int := 0;
begin
  -- Most memories say nothing of their own (contracts/fields.py, DEFAULT_GOVERNANCE): the general way below gives the same.
  if new.parents = '{}' and applies = '{"read_roles": ["MEMBER", "AGENT"], "write_roles": ["AGENT"],
      "share_roles": ["ADMIN"], "principals": {"allow": [], "deny": []}, "visibility": "project", "shareable": true,
      "license": null, "ttl_days": 365, "expires_at": null, "on_expire": "archive", "legal_hold": false,
      "frozen": false, "pin": false, "decay": {"policy": "none", "half_life_days": null, "floor": 0.0},
      "sensitivity": "internal", "pii_tagged": false, "pii_kinds": [], "audit_reads": false}' then
    new.let_in := array[new.created_by];
    new.expires_at := new.stored_at + 365 * interval '24 hours';
    new.read_roles := '{MEMBER,AGENT}';
    new.write_roles := '{AGENT}';
    new.denied := '{}';
    new.visibility := 'project';
    new.frozen := false;
    new.legal_hold := false;
    new.audit_reads := false;
    new.audience := case when new.trust = 'quarantined' then 2 else 1 end;
    return new;
  end if;
  if new.parents = '{}' then
    new.let_in := memcube.texts(applies #> '{principals,allow}') || new.created_by;
    new.expires_at := least((applies ->> 'expires_at')::timestamptz,
                            new.stored_at + (applies ->> 'ttl_days')::int * interval '24 hours');
  else
    if tg_op = 'INSERT' or new.governance is distinct from old.governance then
      new.governance_own := new.governance;
    end if;
    applies := new.governance_own;
    new.let_in := memcube.texts(applies #> '{principals,allow}') || new.created_by;
    new.expires_at := least((applies ->> 'expires_at')::timestamptz,
                            new.stored_at + (applies ->> 'ttl_days')::int * interval '24 hours');
    if tg_op = 'INSERT' then
      perform memcube.hold_sources(new.parents);
    end if;
    for parent in
      select m.governance, m.let_in, m.expires_at from memcube.memories m
       where m.project_id = new.project_id and m.id = any (new.parents) order by m.id
    loop
      met := met + 1;
      applies := memcube.strictest(applies, parent.governance);
      new.let_in := array(select unnest(new.let_in) intersect select unnest(parent.let_in) order by 1);
      new.expires_at := least(new.expires_at, parent.expires_at);
    end loop;
    if met < (select count(distinct p) from unnest(new.parents) p) then
      if tg_op = 'INSERT' then
        raise exception using errcode = 'MC003', message = 'a parent does not exist';
      end if;
      applies := memcube.strictest(applies, old.governance);
      new.let_in := array(select unnest(new.let_in) intersect select unnest(old.let_in) order by 1);
      new.expires_at := least(new.expires_at, old.expires_at);
    end if;
    new.governance := applies;
  end if;
  new.read_roles := memcube.texts(applies -> 'read_roles');
  new.write_roles := memcube.texts(applies -> 'write_roles');
  new.denied := memcube.texts(applies #> '{principals,deny}');
  new.visibility := coalesce(applies ->> 'visibility', 'private');  -- what is not said lets nobody in
  new.frozen := coalesce((applies ->> 'frozen')::boolean, false);
  new.legal_hold := coalesce((applies ->> 'legal_hold')::boolean, false);
  new.audit_reads := coalesce((applies ->> 'audit_reads')::boolean, false);
  new.audience := case
    when new.denied <> '{}' or new.trust = 'quarantined' then 2
    when new.visibility = 'public' then 0
    when new.visibility = 'project' and new.read_roles @> '{MEMBER,AGENT}' then 1
    else 2 end;
  return new;
end $$;

-- What no writer may do, whatever its role: change what is frozen, end what is held. And who may change governance:
-- the creator and the project's OWNER, ADMIN and SERVICE; a hold, a freeze undone and a PII mark only the latter. Of a
-- derived memory that goes for what was stated too, even where its sources demand the same and nothing changes yet.
create function memcube.guard_memory() returns trigger
language plpgsql set search_path = '' as $$
declare
  privileged boolean := current_user <> 'memcube_user'
                     or current_setting('app.role', true) in ('OWNER', 'ADMIN', 'SERVICE');
begin
  if tg_op = 'DELETE' then
    if old.legal_hold then
      raise exception using errcode = 'MC002', message = 'the memory is under legal hold';
    end if;
    if old.frozen then
      raise exception using errcode = 'MC001', message = 'the memory is frozen';
    end if;
    return old;
  end if;
  if old.legal_hold and new.lifecycle = 'EXPIRED' and old.lifecycle <> 'EXPIRED' then
    raise exception using errcode = 'MC002', message = 'the memory is under legal hold';
  end if;
  if old.frozen and ((new.label, new.tags, new.metadata, new.priority, new.lifecycle, new.kv_hint)
       is distinct from (old.label, old.tags, old.metadata, old.priority, old.lifecycle, old.kv_hint)
       or new.frozen and new.version <> old.version) then
    raise exception using errcode = 'MC001', message = 'the memory is frozen';
  end if;
  if (new.governance is distinct from old.governance or new.governance_own is distinct from old.governance_own)
     and current_user <> 'memcube_governor' then
    if old.frozen and not (privileged and (new.governance - 'frozen') = (old.governance - 'frozen')) then
      raise exception using errcode = 'MC001', message = 'the memory is frozen';
    end if;
    if not privileged and (old.created_by <> current_setting('app.principal', true)
         or (new.governance -> 'legal_hold', new.governance -> 'pii_tagged', new.governance -> 'pii_kinds')
              is distinct from (old.governance -> 'legal_hold', old.governance -> 'pii_tagged', old.governance -> 'pii_kinds')) then
      raise exception using errcode = 'insufficient_privilege', message = 'this governance may not be changed by this role';
    end if;
    if not privileged and new.governance_own is not null then  -- as stated before, not as inherited now
      new.governance_own := new.governance_own || jsonb_build_object(
        'legal_hold', old.governance_own -> 'legal_hold', 'pii_tagged', old.governance_own -> 'pii_tagged',
        'pii_kinds', old.governance_own -> 'pii_kinds');
    end if;
  end if;
  return new;
end $$;

-- The content of a memory, and the insight it came from, are held and frozen with it.
create function memcube.guard_content() returns trigger
language plpgsql set search_path = '' as $$
declare
  held record;
begin
  select m.legal_hold, m.frozen into held
    from memcube.memories m where m.project_id = old.project_id and m.id = old.memory_id;
  if held.legal_hold and tg_op = 'DELETE' then
    raise exception using errcode = 'MC002', message = 'the memory is under legal hold';
  end if;
  if held.frozen then
    raise exception using errcode = 'MC001', message = 'the memory is frozen';
  end if;
  if tg_op = 'DELETE' then
    return old;
  end if;
  return new;
end $$;

-- After governance has changed: side tables learn the audience, descendants are judged again. The project is that of
-- the row, so that a change by any hand reaches them.
create function memcube.on_governance_changed() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project_before text := coalesce(pg_catalog.current_setting('app.project_id', true), '');
begin
  perform pg_catalog.set_config('app.project_id', new.project_id, true);
  if tg_op = 'INSERT' then
    insert into memcube.memory_parents (project_id, parent_id, child_id)
    select new.project_id, p, new.id from pg_catalog.unnest(new.parents) p on conflict do nothing;
  else
    if new.audience <> old.audience then
      update memcube.memory_text set audience = new.audience
       where project_id = new.project_id and memory_id = new.id;
      update memcube.memory_vectors set audience = new.audience
       where project_id = new.project_id and memory_id = new.id;
    end if;
    if exists (select from memcube.memory_parents l where l.project_id = new.project_id and l.parent_id = new.id) then
      update memcube.memories m set governance_own = m.governance_own
        from memcube.memory_parents l
       where l.project_id = new.project_id and l.parent_id = new.id
         and m.project_id = new.project_id and m.id = l.child_id;
    end if;
  end if;
  perform pg_catalog.set_config('app.project_id', project_before, true);
  return null;
end $$;

-- Existing memories and changes get their columns; forced policies would hide every row from the owner meanwhile.
alter table memcube.memories no force row level security;
alter table memcube.memory_text no force row level security;
alter table memcube.memory_vectors no force row level security;

create trigger a_govern before insert or update of governance, governance_own, trust on memcube.memories
  for each row execute function memcube.govern_memory();
update memcube.memories set governance_own = null;
update memcube.memory_text t set audience = m.audience
  from memcube.memories m where m.project_id = t.project_id and m.id = t.memory_id;
update memcube.memory_vectors v set audience = m.audience
  from memcube.memories m where m.project_id = v.project_id and m.id = v.memory_id;

alter table memcube.memories force row level security;
alter table memcube.memory_text force row level security;
alter table memcube.memory_vectors force row level security;

-- Triggers of one kind fire by name: what may not be done is refused after what was asked is complete.
create trigger b_guard before update of label, version, tags, metadata, priority, lifecycle, kv_hint, governance
  on memcube.memories for each row execute function memcube.guard_memory();
create trigger b_guard_deletion before delete on memcube.memories
  for each row when (old.legal_hold or old.frozen) execute function memcube.guard_memory();
create trigger c_inherit after insert on memcube.memories
  for each row when (new.parents <> '{}') execute function memcube.on_governance_changed();
create trigger c_reconsider after update of governance, governance_own, trust on memcube.memories
  for each row when (old.governance is distinct from new.governance or old.let_in <> new.let_in
                     or old.audience <> new.audience or old.expires_at is distinct from new.expires_at)
  execute function memcube.on_governance_changed();
create trigger b_guard before update or delete on memcube.memory_payloads
  for each row execute function memcube.guard_content();
create trigger b_guard before delete on memcube.insights
  for each row execute function memcube.guard_content();

-- ── the change feed says whom a change concerns, and the audit trail who made it ───────────────────

-- What is quarantined, or past its time, concerns the privileged only, on the bus as well; that it expired or is gone,
-- whoever could read it.

grant create on schema memcube to memcube_feed, memcube_search;
set local role memcube_feed;
create or replace function memcube.on_memories_written() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  actor text := coalesce(nullif(pg_catalog.current_setting('app.principal', true), ''), session_user);
  role text := coalesce(pg_catalog.current_setting('app.role', true), '');
  source text := coalesce(pg_catalog.current_setting('app.source', true), '');
begin
  perform memcube.enter_feed();
  if tg_op = 'INSERT' then
    with announced as (
      insert into memcube.changes (project_id, type, body, memory_id, audience, visibility, read_roles, let_in, denied)
      select project_id, 'memory.v1.created', pg_catalog.jsonb_build_object(
               'memory_id', id, 'version', version, 'memory_type', type, 'label', label, 'tags', tags,
               'lifecycle', lifecycle, 'actor', created_by),
             id, case when shut then 2 else audience end, case when shut then 'private' else visibility end, read_roles,
             case when shut then '{}' else let_in end, denied
        from (select *, trust = 'quarantined' or lifecycle = 'EXPIRED' or coalesce(expires_at <= now(), false) as shut
                from after_rows) a
       order by id
    )
    insert into memcube.memory_events (project_id, memory_id, kind, version, actor, role, source)
    select project_id, id, 'CREATED', version, actor, role, source from after_rows;
  elsif tg_op = 'DELETE' then
    with announced as (
      insert into memcube.changes (project_id, type, body, memory_id, audience, visibility, read_roles, let_in, denied)
      select project_id, 'memory.v1.purged', pg_catalog.jsonb_build_object(
               'memory_id', id, 'version', version, 'memory_type', type, 'label', '(purged)', 'tags', '[]'::jsonb,
               'lifecycle', lifecycle, 'actor', actor),
             id, audience, visibility, read_roles, let_in, denied
        from before_rows order by id
    )
    insert into memcube.memory_events (project_id, memory_id, kind, version, actor, role, source)
    select project_id, id, 'PURGED', version, actor, role, source from before_rows;
  else
    with described as (
      select a.project_id, a.id, a.version, a.audience, a.visibility, a.read_roles, a.let_in, a.denied,
             case
               when a.lifecycle <> b.lifecycle and a.lifecycle = 'ARCHIVED' then 'archived'
               when a.lifecycle <> b.lifecycle and a.lifecycle = 'EXPIRED' then 'expired'
               when a.lifecycle <> b.lifecycle and b.lifecycle in ('ARCHIVED', 'EXPIRED') then 'restored'
               when a.lifecycle <> b.lifecycle and b.lifecycle = 'NEW' and a.lifecycle = 'ACTIVE' then 'promoted'
               when a.embedding_state = 'ready' and a.embedded_at is distinct from b.embedded_at then 'embedded'
               else 'updated'
             end as verb,
             pg_catalog.array_remove(array[
               case when a.label <> b.label then 'label' end,
               case when a.tags <> b.tags then 'tags' end,
               case when a.governance <> b.governance or a.governance_own is distinct from b.governance_own
                         or a.let_in <> b.let_in or a.expires_at is distinct from b.expires_at then 'governance' end,
               case when a.metadata <> b.metadata then 'metadata' end,
               case when a.priority <> b.priority then 'priority' end,
               case when a.lifecycle <> b.lifecycle then 'lifecycle' end,
               case when a.trust <> b.trust then 'trust' end,
               case when a.version <> b.version then 'version' end,
               case when a.embedding_state <> b.embedding_state then 'embedding' end], null) as changed,
             a.type as memory_type, a.label, a.tags, a.lifecycle,
             a.trust = 'quarantined'
             or (a.lifecycle <> 'EXPIRED' or b.lifecycle = 'EXPIRED')
                and (a.lifecycle = 'EXPIRED' or coalesce(a.expires_at <= now(), false)) as shut
        from after_rows a join before_rows b on b.project_id = a.project_id and b.id = a.id
    ), announced as (
      insert into memcube.changes (project_id, type, body, memory_id, audience, visibility, read_roles, let_in, denied)
      select project_id, 'memory.v1.' || verb, pg_catalog.jsonb_build_object(
               'memory_id', id, 'version', version, 'memory_type', memory_type, 'label', label, 'tags', tags,
               'lifecycle', lifecycle, 'actor', actor, 'changed', changed),
             id, case when shut then 2 else audience end, case when shut then 'private' else visibility end, read_roles,
             case when shut then '{}' else let_in end, denied
        from described where verb <> 'updated' or changed <> '{}' order by id
    )
    insert into memcube.memory_events (project_id, memory_id, kind, version, changed, actor, role, source)
    select project_id, id, pg_catalog.upper(verb), version, changed, actor, role, source
      from described where verb <> 'embedded' and (verb <> 'updated' or changed not in ('{}', '{embedding}'));
  end if;
  return null;
end $$;

revoke execute on function memcube.on_memories_written() from memcube_user, memcube_worker;  -- a trigger needs none
reset role;

-- Attempts that were refused, counted by who and what; the project is the transaction's own. One that is gone by now
-- takes no events.
create function memcube.note_denials(p_actors text[], p_sources text[], p_actions text[], p_counts int[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  insert into memcube.project_events (project_id, kind, actor, source, subject, details)
  select pg_catalog.current_setting('app.project_id'), 'denied', actor, source, action,
         pg_catalog.jsonb_build_object('attempts', attempts)
    from unnest(p_actors, p_sources, p_actions, p_counts) as given (actor, source, action, attempts);
exception when foreign_key_violation then
  null;
end $$;

-- ── what a reader gets: candidates and content, always by way of what it may read ──────────────────

-- The lowest class of memories of which every one may be read by the transaction's role: 2, 1 or 0.
create function memcube.reach() returns smallint
language sql stable set search_path = '' as $$
  select case when pg_catalog.current_setting('app.role', true) in ('OWNER', 'ADMIN', 'SERVICE') then 2
              when pg_catalog.current_setting('app.role', true) in ('MEMBER', 'AGENT') then 1 else 0 end::smallint
$$;

-- Ids of the memories whose words match best. `@@` is not leakproof, so under a policy it would lose its index
-- (4.6 → 155 ms at 100,000 rows); this function reads one project, the transaction's own. Of rows beyond the reader's
-- class `memories` is asked, under the policy that governs readers: `offset 0` keeps that a look-up of the row's own
-- memory, where Postgres would else judge all of the project's.
set local role memcube_search;
create or replace function memcube.text_candidates(p_query tsquery, p_tags text[], p_ranked int, p_limit int)
returns table (memory_id uuid, score real)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  reach smallint := memcube.reach();
  told uuid[];
  scores real[];
begin
  -- The best first, and only they are asked about: hidden ones among the rest cost nothing.
  select array_agg(r.memory_id), array_agg(r.s) into told, scores
    from (select c.memory_id, c.s
            from (select t.memory_id, t.audience, pg_catalog.ts_rank(t.tsv, p_query, 1) as s
                    from (select x.memory_id, x.audience, x.tsv from memcube.memory_text x
                           where x.project_id = project and x.tsv @@ p_query and (p_tags = '{}' or x.tags @> p_tags)
                           limit p_ranked) t
                   order by s desc, t.memory_id desc offset 0) c
           where c.audience <= reach or exists (select from memcube.memories m
                                                 where m.project_id = project and m.id = c.memory_id offset 0)
           limit p_limit) r;
  return query select u.id, u.s from unnest(told, scores) as u (id, s);
  if coalesce(pg_catalog.cardinality(told), 0) < p_limit and reach < 2
     and (select count(*) = p_ranked from (select from memcube.memory_text x
                                            where x.project_id = project and x.tsv @@ p_query
                                              and (p_tags = '{}' or x.tags @> p_tags) limit p_ranked) c) then
    -- Hidden ones may have filled what was ranked: they are left out first.
    return query
    select c.memory_id, pg_catalog.ts_rank(c.tsv, p_query, 1) as s
      from (select t.memory_id, t.tsv from memcube.memory_text t
             where t.project_id = project and t.tsv @@ p_query and (p_tags = '{}' or t.tags @> p_tags)
               and not t.memory_id = any (coalesce(told, '{}'))
               and (t.audience <= reach or exists (select from memcube.memories m
                                                    where m.project_id = project and m.id = t.memory_id offset 0))
             limit p_ranked) c
     order by s desc, c.memory_id desc limit p_limit - coalesce(pg_catalog.cardinality(told), 0);
  end if;
end $$;

-- Newest memories that carry all tags; same reason, same safeguard as text_candidates.
create or replace function memcube.tag_candidates(p_tags text[], p_limit int)
returns table (memory_id uuid)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  reach smallint := memcube.reach();
begin
  return query
  select t.memory_id from memcube.memory_text t
   where t.project_id = project and t.tags @> p_tags
     and (t.audience <= reach or exists (select from memcube.memories m
                                          where m.project_id = project and m.id = t.memory_id offset 0))
   order by t.memory_id desc limit p_limit;
end $$;
grant execute on function memcube.text_candidates(tsquery, text[], int, int), memcube.tag_candidates(text[], int)
  to memcube_anon;
reset role;

-- The memories nearest in meaning. With p_rough, the Hamming distance of one-bit codes out of the covering index first
-- and the nearest p_rough of them compared exactly; without, every vector is compared. Hidden ones are left out of the
-- nearest; only where too few remain, they are left out first, which asks about every memory beyond the reader's class.
create function memcube.vector_candidates(p_generation smallint, p_query public.halfvec, p_tags text[], p_limit int, p_rough int)
returns table (memory_id uuid, distance float8)
language plpgsql stable security definer rows 200 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  reach smallint := memcube.reach();
  looked int := case when p_rough > 0 then p_rough else least(p_limit::bigint * 3, 2147483647) end;
  near record;
  met int := 0;
  shown int := 0;
  told uuid[] := '{}';
begin
  if p_rough = 0 then
    for near in
      select n.memory_id, n.d, n.audience <= reach
             or exists (select from memcube.memories m
                         where m.project_id = project and m.id = n.memory_id offset 0) as seen
        from (select v.memory_id, v.audience, v.embedding operator(public.<=>) p_query as d
                from memcube.memory_vectors v
               where v.project_id = project and v.generation = p_generation and (p_tags = '{}' or v.tags @> p_tags)
               order by d, v.memory_id limit looked) n
       order by n.d, n.memory_id
    loop
      met := met + 1;
      if near.seen then
        shown := shown + 1;
        told := told || near.memory_id;
        memory_id := near.memory_id;
        distance := near.d;
        return next;
        exit when shown = p_limit;
      end if;
    end loop;
  else
    for near in
      select v.memory_id, v.embedding operator(public.<=>) p_query as d, v.audience <= reach
             or exists (select from memcube.memories m
                         where m.project_id = project and m.id = v.memory_id offset 0) as seen
        from (select s.memory_id
                from (select x.memory_id, x.bits from memcube.memory_vectors x
                       where x.project_id = project and x.generation = p_generation
                         and (p_tags = '{}' or x.tags @> p_tags) offset 0) s
               order by s.bits operator(public.<~>) public.binary_quantize(p_query) limit looked) r
       cross join lateral (select x.memory_id, x.embedding, x.audience from memcube.memory_vectors x
                            where x.project_id = project and x.generation = p_generation and x.memory_id = r.memory_id
                            limit 1) v
       order by d, v.memory_id
    loop
      met := met + 1;
      if near.seen then
        shown := shown + 1;
        told := told || near.memory_id;
        memory_id := near.memory_id;
        distance := near.d;
        return next;
        exit when shown = p_limit;
      end if;
    end loop;
  end if;
  if shown < p_limit and met >= looked then
    return query
    select v.memory_id, v.embedding operator(public.<=>) p_query as d
      from memcube.memory_vectors v
     where v.project_id = project and v.generation = p_generation and (p_tags = '{}' or v.tags @> p_tags)
       and (v.audience <= reach or exists (select from memcube.memories m
                                            where m.project_id = project and m.id = v.memory_id))
       and v.memory_id <> all (told)   -- by codes, those told are not the first by distance
     order by d, v.memory_id limit p_limit - shown;
  end if;
end $$;

-- How near memories are that were found by their words; of hidden ones nothing, since enough distances are the vector.
create function memcube.vector_distances(p_generation smallint, p_query public.halfvec, p_ids uuid[])
returns table (memory_id uuid, distance float8)
language plpgsql stable security definer rows 200 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  reach smallint := memcube.reach();
begin
  return query
  select v.memory_id, v.embedding operator(public.<=>) p_query
    from pg_catalog.unnest(p_ids) w (id)
   cross join lateral (select x.memory_id, x.embedding, x.audience from memcube.memory_vectors x
                        where x.project_id = project and x.generation = p_generation and x.memory_id = w.id limit 1) v
   where v.audience <= reach or exists (select from memcube.memories m
                                         where m.project_id = project and m.id = v.memory_id offset 0);
end $$;

-- How many vectors the project has, counted up to p_at_most.
create function memcube.count_vectors(p_generation smallint, p_at_most int) returns int
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return (select count(*) from (select from memcube.memory_vectors v
                                 where v.project_id = project and v.generation = p_generation limit p_at_most) c);
end $$;

-- The content of memories the caller may read, and a mark in the audit trail where their governance asks for one.
create function memcube.contents(p_ids uuid[])
returns table (memory_id uuid, content text, content_zstd bytea, size_bytes int, token_count int, checksum bytea)
language plpgsql security definer rows 20 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  found_one record;
begin
  for found_one in
    select m.version, m.audit_reads, p.*
      from pg_catalog.unnest(p_ids) w (id)
     cross join lateral (select x.id, x.version, x.audit_reads from memcube.memories x
                          where x.project_id = project and x.id = w.id limit 1) m
     cross join lateral (select x.* from memcube.memory_payloads x
                          where x.project_id = project and x.memory_id = m.id limit 1) p
  loop
    if found_one.audit_reads then
      insert into memcube.memory_events (project_id, memory_id, kind, version, actor, role, source)
      values (project, found_one.memory_id, 'ACCESSED', found_one.version,
              pg_catalog.current_setting('app.principal', true), pg_catalog.current_setting('app.role', true),
              coalesce(pg_catalog.current_setting('app.source', true), ''));
    end if;
    memory_id := found_one.memory_id;
    content := found_one.content;
    content_zstd := found_one.content_zstd;
    size_bytes := found_one.size_bytes;
    token_count := found_one.token_count;
    checksum := found_one.checksum;
    return next;
  end loop;
end $$;

-- ── owners of the definer functions ────────────────────────────────────────────────────────────────

-- Before they change hands: afterwards a revoke by memcube_owner would change nothing, quietly.
revoke execute on function
  memcube.texts(jsonb), memcube.in_both(jsonb, jsonb), memcube.in_either(jsonb, jsonb), memcube.strictest(jsonb, jsonb),
  memcube.hold_sources(uuid[]),
  memcube.govern_memory(), memcube.guard_memory(), memcube.guard_content(), memcube.on_governance_changed(),
  memcube.reach(), memcube.vector_candidates(smallint, public.halfvec, text[], int, int),
  memcube.vector_distances(smallint, public.halfvec, uuid[]), memcube.count_vectors(smallint, int),
  memcube.contents(uuid[]), memcube.note_denials(text[], text[], text[], int[]) from public;
grant execute on function memcube.note_denials(text[], text[], text[], int[]) to memcube_worker;
grant execute on function memcube.texts(jsonb), memcube.in_both(jsonb, jsonb), memcube.in_either(jsonb, jsonb),
  memcube.strictest(jsonb, jsonb) to memcube_user, memcube_worker, memcube_governor;
grant execute on function memcube.hold_sources(uuid[]) to memcube_user, memcube_worker;
grant execute on function memcube.reach() to memcube_search;
grant execute on function
  memcube.vector_candidates(smallint, public.halfvec, text[], int, int),
  memcube.vector_distances(smallint, public.halfvec, uuid[]), memcube.count_vectors(smallint, int),
  memcube.contents(uuid[]) to memcube_user, memcube_anon;

grant create on schema memcube to memcube_governor;
alter function memcube.vector_candidates(smallint, public.halfvec, text[], int, int) owner to memcube_search;
alter function memcube.vector_distances(smallint, public.halfvec, uuid[]) owner to memcube_search;
alter function memcube.count_vectors(smallint, int) owner to memcube_search;
alter function memcube.contents(uuid[]) owner to memcube_search;
alter function memcube.on_governance_changed() owner to memcube_governor;
alter function memcube.hold_sources(uuid[]) owner to memcube_governor;
alter function memcube.note_denials(text[], text[], text[], int[]) owner to memcube_governor;
revoke create on schema memcube from memcube_feed, memcube_search, memcube_governor;

-- ── grants: what a request may touch itself is what policies govern ────────────────────────────────

grant usage on schema memcube to memcube_governor, memcube_quota, memcube_doorkeeper;
revoke select on memcube.memory_payloads, memcube.memory_text, memcube.memory_vectors from memcube_user;
revoke insert on memcube.embedding_models from memcube_worker;
grant insert (name, dimensions, fingerprint) on memcube.embedding_models to memcube_worker;
revoke select, delete on memcube.idempotency_keys from memcube_worker;
grant select (project_id, principal, route, key, created_at), delete on memcube.idempotency_keys to memcube_worker;
revoke update on memcube.memories from memcube_worker;
grant update (label, version, tags, governance, metadata, priority, lifecycle, trust, usage_hits, last_used, kv_hint,
              watermark, updated_at, embedding_state, embedding_model, embedding_reason, embedded_at)
  on memcube.memories to memcube_worker;
grant update (label, version, tags, governance, metadata, priority, lifecycle, kv_hint, updated_at)
  on memcube.memories to memcube_user;
grant select on memcube.memories to memcube_anon;
grant select on memcube.memories, memcube.memory_payloads, memcube.memory_vectors to memcube_search;
grant insert on memcube.memory_events to memcube_feed, memcube_search;
grant usage on sequence memcube.memory_events_seq to memcube_feed, memcube_search;
grant select on memcube.memory_events to memcube_user;
grant select on memcube.memories to memcube_governor;
grant update (governance, governance_own) on memcube.memories to memcube_governor;
grant select, update (audience) on memcube.memory_text, memcube.memory_vectors to memcube_governor;
grant select, insert on memcube.memory_parents to memcube_governor;

-- ── policies: one per command, by real columns and bare settings ───────────────────────────────────

do $$
declare t text;
begin
  foreach t in array array['memory_parents', 'memory_events'] loop
    execute format('alter table memcube.%I enable row level security', t);
    execute format('alter table memcube.%I force row level security', t);
  end loop;
  for i in 0..15 loop
    execute format('alter table memcube.memory_events_p%s enable row level security', i);
    execute format('alter table memcube.memory_events_p%s force row level security', i);
  end loop;
  foreach t in array array['idempotency_keys', 'insights', 'memories', 'memory_payloads', 'memory_text',
                           'memory_vectors', 'work_queue', 'parked', 'changes', 'feed', 'feed_heads', 'projects'] loop
    execute format('drop policy tenant on memcube.%I', t);
  end loop;
end $$;

-- The transaction's own project, nothing more: rooms at work, and tables that say nothing about a memory.
do $$
declare
  grant_of text[];
  own constant text := 'project_id = current_setting(''app.project_id'', true)';
begin
  foreach grant_of slice 1 in array array[
    ['insights', 'memcube_worker', 'select insert update'],
    ['memories', 'memcube_worker', 'select insert update delete'],
    ['memories', 'memcube_governor', 'select update'],
    ['memory_payloads', 'memcube_worker', 'select insert update delete'],
    ['memory_payloads', 'memcube_search', 'select'],
    ['memory_text', 'memcube_worker', 'select insert update delete'],
    ['memory_text', 'memcube_governor', 'select update'],
    ['memory_vectors', 'memcube_worker', 'select insert update delete'],
    ['memory_vectors', 'memcube_search', 'select'],
    ['memory_vectors', 'memcube_governor', 'select update'],
    ['memory_parents', 'memcube_governor', 'select insert'],
    ['memory_events', 'memcube_search', 'insert'],
    ['work_queue', 'memcube_user', 'insert'],
    ['work_queue', 'memcube_worker', 'select insert update delete'],
    ['parked', 'memcube_worker', 'select insert'],
    ['feed', 'memcube_user', 'select'],
    ['feed_heads', 'memcube_user', 'select']
  ] loop
    declare
      command text;
    begin
      foreach command in array string_to_array(grant_of[3], ' ') loop
        execute format('create policy %s on memcube.%I for %s to %I %s',
          replace(grant_of[2], 'memcube_', '') || '_' || command, grant_of[1], command, grant_of[2],
          case command when 'insert' then format('with check (%s)', own)
                       when 'update' then format('using (%s) with check (%s)', own, own)
                       else format('using (%s)', own) end);
      end loop;
    end;
  end loop;
end $$;

create policy project_select on memcube.projects for select to memcube_user, memcube_anon, memcube_worker
  using (id = current_setting('app.project_id', true));

drop policy operate on memcube.projects;
create policy operator_select on memcube.projects for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_insert on memcube.projects for insert to memcube_operator
  with check (current_setting('app.principal', true) = 'operator');

drop policy candidates on memcube.memory_text;
-- The one policy that says nothing: any other would take `@@` its index (4.5 → 19 ms at 10,000 memories). Nobody signs
-- in as memcube_search or becomes it; the functions it owns take the project from the setting, and are tested for it.
create policy search_select on memcube.memory_text for select to memcube_search using (true);

-- Readers of memories: OWNER, ADMIN and SERVICE whatever they say; others if nothing keeps them out and their role or
-- their name lets them in. The definer functions above read under the same rule: it asks settings, not the role.
create policy reader_select on memcube.memories for select to memcube_user, memcube_search
  using (project_id = current_setting('app.project_id', true) and (
    current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
    or (not current_setting('app.principal', true) = any (denied)
        and trust <> 'quarantined' and lifecycle <> 'EXPIRED' and (expires_at is null or expires_at > now())
        and (current_setting('app.principal', true) = any (let_in) and current_setting('app.role', true) <> 'PUBLIC'
             or visibility = 'public'
             or visibility = 'project' and current_setting('app.role', true) = any (read_roles)))));

create policy public_select on memcube.memories for select to memcube_anon
  using (project_id = current_setting('app.project_id', true) and visibility = 'public'
         and not current_setting('app.principal', true) = any (denied)
         and trust <> 'quarantined' and lifecycle <> 'EXPIRED' and (expires_at is null or expires_at > now()));

create policy writer_insert on memcube.memories for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true) and (
    current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
    or current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])
       and created_by = current_setting('app.principal', true)));

create policy writer_update on memcube.memories for update to memcube_user
  using (project_id = current_setting('app.project_id', true) and (
    current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
    or current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])
       and not current_setting('app.principal', true) = any (denied)
       and (created_by = current_setting('app.principal', true)
            or current_setting('app.role', true) = any (write_roles))))
  with check (project_id = current_setting('app.project_id', true));

-- Side tables of a new memory: written with it, by those who may write one; the keys are the memory's own.
create policy writer_insert on memcube.memory_payloads for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true)
              and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]));
create policy writer_insert on memcube.memory_text for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true)
              and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]));

-- An insight is its sender's own: others read the memory it became.
create policy sender_select on memcube.insights for select to memcube_user
  using (project_id = current_setting('app.project_id', true)
         and (current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
              or agent_id = current_setting('app.principal', true)));
create policy sender_insert on memcube.insights for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true)
              and (current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
                   or current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])
                      and agent_id = current_setting('app.principal', true)));

-- An Idempotency-Key belongs to who used it.
create policy own_select on memcube.idempotency_keys for select to memcube_user
  using (project_id = current_setting('app.project_id', true) and principal = current_setting('app.principal', true));
create policy own_insert on memcube.idempotency_keys for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true) and principal = current_setting('app.principal', true));
create policy own_update on memcube.idempotency_keys for update to memcube_user
  using (project_id = current_setting('app.project_id', true) and principal = current_setting('app.principal', true))
  with check (project_id = current_setting('app.project_id', true) and principal = current_setting('app.principal', true));

-- A change reaches those who could read the memory when it happened; what is read again later is also asked of the
-- memory as it is then. A receipt reaches who sent the insight.
create policy follower_select on memcube.changes for select to memcube_user
  using (project_id = current_setting('app.project_id', true) and (
    current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
    or agent = current_setting('app.principal', true)
    or agent is null and not current_setting('app.principal', true) = any (denied)
       and (current_setting('app.principal', true) = any (let_in)
            or visibility = 'public'
            or visibility = 'project' and current_setting('app.role', true) = any (read_roles))));

create policy audit_select on memcube.memory_events for select to memcube_user
  using (project_id = current_setting('app.project_id', true)
         and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[]));

-- The named exceptions: what acts for many projects, each on the one table it needs, and only under its own name.
drop policy announce on memcube.changes;
create policy feed_insert on memcube.changes for insert to memcube_feed
  with check (project_id = current_setting('app.project_id', true) or current_setting('app.project_id', true) is null
              or current_setting('app.project_id', true) = '');
create policy feed_insert on memcube.memory_events for insert to memcube_feed
  with check (project_id = current_setting('app.project_id', true) or current_setting('app.project_id', true) is null
              or current_setting('app.project_id', true) = '');

drop policy dispatch on memcube.work_queue;
create policy dispatch_select on memcube.work_queue for select to memcube_dispatch
  using (current_setting('app.principal', true) = any ('{room:ingestion,room:embedding,room:lifecycle}'::text[]));
create policy dispatch_update on memcube.work_queue for update to memcube_dispatch
  using (current_setting('app.principal', true) = any ('{room:ingestion,room:embedding,room:lifecycle}'::text[]))
  with check (current_setting('app.principal', true) = any ('{room:ingestion,room:embedding,room:lifecycle}'::text[]));

drop policy relay on memcube.changes;
create policy relay_select on memcube.changes for select to memcube_relay
  using (current_setting('app.principal', true) = 'room:relay');
drop policy relay on memcube.feed;
create policy relay_select on memcube.feed for select to memcube_relay
  using (current_setting('app.principal', true) = 'room:relay');
create policy relay_insert on memcube.feed for insert to memcube_relay
  with check (current_setting('app.principal', true) = 'room:relay');
drop policy relay on memcube.feed_heads;
create policy relay_select on memcube.feed_heads for select to memcube_relay
  using (current_setting('app.principal', true) = 'room:relay');
create policy relay_insert on memcube.feed_heads for insert to memcube_relay
  with check (current_setting('app.principal', true) = 'room:relay');
create policy relay_update on memcube.feed_heads for update to memcube_relay
  using (current_setting('app.principal', true) = 'room:relay')
  with check (current_setting('app.principal', true) = 'room:relay');

drop policy operate on memcube.parked;
create policy operator_select on memcube.parked for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_delete on memcube.parked for delete to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
drop policy operate on memcube.insights;
create policy operator_select on memcube.insights for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_update on memcube.insights for update to memcube_operator
  using (current_setting('app.principal', true) = 'operator')
  with check (current_setting('app.principal', true) = 'operator');
drop policy operate on memcube.work_queue;
drop policy oversee on memcube.work_queue;
create policy operator_select on memcube.work_queue for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_insert on memcube.work_queue for insert to memcube_operator
  with check (current_setting('app.principal', true) = 'operator');

drop policy forget on memcube.idempotency_keys;
drop policy forget_seen on memcube.idempotency_keys;
create policy forget_select on memcube.idempotency_keys for select to memcube_worker
  using (current_setting('app.principal', true) = 'room:gateway' and created_at < now() - interval '24 hours');
create policy forget_delete on memcube.idempotency_keys for delete to memcube_worker
  using (current_setting('app.principal', true) = 'room:gateway' and created_at < now() - interval '24 hours');

-- The ledger of migrations: written by its owner, read by rooms that compare it with what they were built for.
alter table memcube.schema_migrations enable row level security;
alter table memcube.schema_migrations force row level security;
create policy owner_select on memcube.schema_migrations for select to memcube_owner
  using (current_user = 'memcube_owner');
create policy owner_insert on memcube.schema_migrations for insert to memcube_owner
  with check (current_user = 'memcube_owner');
create policy room_select on memcube.schema_migrations for select to memcube_worker, memcube_operator
  using (current_setting('app.principal', true) <> '');

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
