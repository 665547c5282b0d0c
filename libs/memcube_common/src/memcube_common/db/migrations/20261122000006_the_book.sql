-- migrate:up

-- The memory book: what is in force lies in `memories` and `memory_payloads`; what was in force before is kept beside
-- them, written by the database whenever a version ends. A memory that never changes costs nothing extra.
alter table memcube.memories
  add column content_version int not null default 1,
  add column updated_by      text,
  add column depth           smallint not null default 0,
  add column bound           jsonb;
comment on column memcube.memories.content_version is 'The version its content came with.';
comment on column memcube.memories.updated_by is 'Who made the version in force; nobody yet where it is the first.';
comment on column memcube.memories.bound is 'What sources that are purged demanded of it, as one governance.';
comment on column memcube.memories.depth is 'Steps to its farthest first source; 0 for what was derived from nothing.';

alter table memcube.memory_payloads
  add column version       int not null default 1,
  add column content_bytes bytea,
  add column object_key    text,
  add column blocks        bytea;
comment on column memcube.memory_payloads.version is 'The version of the memory this content came with.';
comment on column memcube.memory_payloads.blocks is 'COLD: SHA-256 of each MiB, one after the other.';
alter table memcube.memory_payloads drop constraint memory_payloads_check;
alter table memcube.memory_payloads add constraint memory_payloads_one_place check (case storage_mode
  when 'INLINE' then num_nonnulls(content, content_bytes) = 1 and num_nonnulls(content_zstd, object_key, blocks) = 0
  when 'COMPRESSED' then content_zstd is not null and num_nonnulls(content, content_bytes, object_key, blocks) = 0
  else num_nonnulls(object_key, blocks) = 2 and num_nonnulls(content, content_bytes, content_zstd) = 0 end);

create table memcube.memory_versions (
  project_id text not null,
  memory_id  uuid not null,
  version    int not null,
  label      text not null,
  tags       text[] not null,
  metadata   jsonb not null,
  governance jsonb not null,
  priority   text not null,
  lifecycle  text not null,
  kv_hint    text,
  by         text not null,
  at         timestamptz not null,
  primary key (project_id, memory_id, version)
) partition by hash (project_id);
comment on table memcube.memory_versions is 'Versions that were followed by another; the newest is the memory itself.';
comment on column memcube.memory_versions.governance is 'As it was stated; what applies to every version is what applies to the memory now.';

create table memcube.past_payloads (
  project_id    text not null,
  memory_id     uuid not null,
  version       int not null,
  storage_mode  text not null,
  content       text,
  content_bytes bytea,
  content_zstd  bytea,
  object_key    text,
  blocks        bytea,
  size_bytes    int not null,
  token_count   int not null,
  checksum      bytea not null,
  primary key (project_id, memory_id, version)
) partition by hash (project_id);
comment on column memcube.past_payloads.version is 'The version it came with: it is the content of that one and of those after it, until the next content.';

-- What lies in the object store. A row is there before its bytes are and until they are gone: no object without a row.
create table memcube.objects (
  project_id text not null,
  key        text not null,
  state      text not null check (state in ('arriving', 'kept', 'leaving')),
  size_bytes bigint not null,
  since      timestamptz not null default clock_timestamp(),
  primary key (project_id, key)
) with (fillfactor = 85);
create index objects_unsettled on memcube.objects (since) where state <> 'kept';

-- An answer that tells a memory's content goes with the memory.
alter table memcube.idempotency_keys add column about uuid;
create index idempotency_keys_about on memcube.idempotency_keys (about) where about is not null;

do $$
declare t text;
begin
  foreach t in array array['memory_versions', 'past_payloads'] loop
    for i in 0..15 loop
      execute format('create table memcube.%s_p%s partition of memcube.%I for values with (modulus 16, remainder %s)', t, i, t, i);
      execute format('alter table memcube.%s_p%s enable row level security', t, i);
      execute format('alter table memcube.%s_p%s force row level security', t, i);
    end loop;
  end loop;
  foreach t in array array['memory_versions', 'past_payloads', 'objects'] loop
    execute format('alter table memcube.%I enable row level security', t);
    execute format('alter table memcube.%I force row level security', t);
  end loop;
end $$;

-- ── a version ends ─────────────────────────────────────────────────────────────────────────────────

-- As before, and: a lineage has an end (64 steps), and what is derived has the first ancestor of its first parent.
create or replace function memcube.govern_memory() returns trigger
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  applies jsonb := new.governance;
  parent record;
  met int := 0;
begin
  -- Most memories say nothing of their own (contracts/fields.py, DEFAULT_GOVERNANCE): the general way below gives the same.
  if new.parents = '{}' and new.bound is null and applies = '{"read_roles": ["MEMBER", "AGENT"], "write_roles": ["AGENT"],
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
  if new.parents = '{}' and new.bound is null then
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
      select m.id, m.governance, m.let_in, m.expires_at, m.depth, m.provenance_id, m.audience from memcube.memories m
       where m.project_id = new.project_id and m.id = any (new.parents) order by m.id
    loop
      met := met + 1;
      applies := memcube.strictest(applies, parent.governance);
      new.let_in := array(select unnest(new.let_in) intersect  -- its maker as long as every MEMBER and AGENT is let in
                          select unnest(case when parent.audience <= 1 then parent.let_in || new.created_by
                                             else parent.let_in end) order by 1);
      new.expires_at := least(new.expires_at, parent.expires_at);
      if tg_op = 'INSERT' then
        new.depth := greatest(new.depth, parent.depth + 1);
        if parent.id = new.parents[1] then
          new.provenance_id := parent.provenance_id;
        end if;
      end if;
    end loop;
    if met < (select count(distinct p) from unnest(new.parents) p) then
      if tg_op = 'INSERT' then
        raise exception using errcode = 'MC003', message = 'a parent does not exist';
      end if;
      applies := memcube.strictest(applies, old.governance);
      new.let_in := array(select unnest(new.let_in) intersect select unnest(old.let_in) order by 1);
      new.expires_at := least(new.expires_at, old.expires_at);
    end if;
    if new.bound is not null then
      applies := memcube.strictest(applies, new.bound);
      new.let_in := array(select unnest(new.let_in) intersect
                          select unnest(memcube.texts(new.bound #> '{principals,allow}')) order by 1);
      new.expires_at := least(new.expires_at, (new.bound ->> 'expires_at')::timestamptz);
    end if;
    if tg_op = 'INSERT' and new.depth > 64 then
      raise exception using errcode = 'MC004', message = 'a lineage has at most 64 steps';
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

-- As before, and: versions are counted one by one, the database says who made one, and a vector that was made from
-- something else does not stay in force.
create or replace function memcube.guard_memory() returns trigger
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
       or new.frozen and new.version <> old.version or new.content_version <> old.content_version) then
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
  if new.version <> old.version then
    if new.version <> old.version + 1 then
      raise exception 'version % does not follow version %', new.version, old.version;
    end if;
    new.updated_by := coalesce(nullif(current_setting('app.principal', true), ''), session_user);
  end if;
  if new.content_version <> old.content_version and new.content_version <> new.version then
    raise exception 'content comes with the version that is made';
  end if;
  if new.content_version <> old.content_version and new.type = 'PLAINTEXT'
     or new.label <> old.label and new.type <> 'PLAINTEXT' then   -- of bytes, the label is what is embedded
    new.embedding_state := 'pending';
    new.embedding_model := null;
    new.embedding_reason := null;
    new.embedded_at := null;
  end if;
  return new;
end $$;

drop trigger b_guard on memcube.memories;
create trigger b_guard before update of label, version, content_version, tags, metadata, priority, lifecycle, kv_hint, governance
  on memcube.memories for each row execute function memcube.guard_memory();

-- The content of a memory, and the insight it came from, are held and frozen with it. Content is replaced by
-- `revise_content` only, which keeps what was and asks before it does.
create or replace function memcube.guard_content() returns trigger
language plpgsql set search_path = '' as $$
declare
  held record;
begin
  if tg_op = 'UPDATE' and current_user = 'memcube_governor' then
    return new;
  end if;
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

-- A version has ended: keep it. Side tables follow the tags; a vector of other content goes, and a new one is waited for.
create function memcube.on_memory_revised() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project_before text := coalesce(pg_catalog.current_setting('app.project_id', true), '');
begin
  perform pg_catalog.set_config('app.project_id', new.project_id, true);
  insert into memcube.memory_versions (project_id, memory_id, version, label, tags, metadata, governance, priority,
                                       lifecycle, kv_hint, by, at)
  values (old.project_id, old.id, old.version, old.label, old.tags, old.metadata,
          coalesce(old.governance_own, old.governance), old.priority, old.lifecycle, old.kv_hint,
          coalesce(old.updated_by, old.created_by), old.updated_at);
  if new.tags <> old.tags then
    update memcube.memory_text set tags = new.tags where project_id = new.project_id and memory_id = new.id;
    update memcube.memory_vectors set tags = new.tags where project_id = new.project_id and memory_id = new.id;
  end if;
  if new.embedding_state = 'pending' and (new.content_version <> old.content_version or new.label <> old.label) then
    delete from memcube.memory_vectors where project_id = new.project_id and memory_id = new.id;
    insert into memcube.work_queue (kind, project_id, item_id) values ('embedding', new.project_id, new.id)
    on conflict (project_id, kind, item_id) do update set due_at = excluded.due_at, attempts = 0;
  end if;
  perform pg_catalog.set_config('app.project_id', project_before, true);
  return null;
end $$;
create trigger d_keep_version after update of version on memcube.memories
  for each row when (new.version <> old.version) execute function memcube.on_memory_revised();

-- Put other content in force, and keep what was. Only where this transaction has just made the version that the content
-- comes with: that it could is what the policies of `memories` allowed. `p_words` is what the memory is found by beside
-- its label; null leaves the content, for a memory that was given another label.
create function memcube.revise_content(
  p_id uuid, p_words text, p_storage_mode text, p_content text, p_content_bytes bytea, p_content_zstd bytea,
  p_object_key text, p_blocks bytea, p_size_bytes int, p_token_count int, p_checksum bytea) returns void
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  memory record;
begin
  select m.label, m.version, m.content_version into memory from memcube.memories m
   where m.project_id = project and m.id = p_id and m.xmin = pg_catalog.pg_current_xact_id()::xid;
  if not found or p_storage_mode is not null and memory.content_version <> memory.version then
    raise exception 'content is revised by who revises the memory';
  end if;
  if p_storage_mode is not null then
    insert into memcube.past_payloads (project_id, memory_id, version, storage_mode, content, content_bytes,
                                       content_zstd, object_key, blocks, size_bytes, token_count, checksum)
    select p.project_id, p.memory_id, p.version, p.storage_mode, p.content, p.content_bytes, p.content_zstd,
           p.object_key, p.blocks, p.size_bytes, p.token_count, p.checksum
      from memcube.memory_payloads p where p.project_id = project and p.memory_id = p_id;
    update memcube.memory_payloads
       set version = memory.version, storage_mode = p_storage_mode, content = p_content,
           content_bytes = p_content_bytes, content_zstd = p_content_zstd, object_key = p_object_key,
           blocks = p_blocks, size_bytes = p_size_bytes, token_count = p_token_count, checksum = p_checksum
     where project_id = project and memory_id = p_id;
  end if;
  update memcube.memory_text t set tsv = pg_catalog.to_tsvector(p.language::regconfig, memory.label || ' ' || p_words)
    from memcube.projects p where p.id = project and t.project_id = project and t.memory_id = p_id;
end $$;

-- ── a memory ends ──────────────────────────────────────────────────────────────────────────────────

-- Forgetting is real: with a memory goes everything that tells its content. What was derived from it keeps what it
-- demanded, and is derived from its sources from then on: who comes back under its id is nobody's source.
create function memcube.on_memories_purged() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project_before text := coalesce(pg_catalog.current_setting('app.project_id', true), '');
  project text;
  gone uuid[];
  bond record;
begin
  for project, gone in
    select b.project_id, pg_catalog.array_agg(b.id order by b.id) from before_rows b group by b.project_id order by b.project_id
  loop
    perform pg_catalog.set_config('app.project_id', project, true);
    for bond in
      select b.id, b.parents, b.let_in, b.audience, b.governance || pg_catalog.jsonb_build_object(
               'principals', pg_catalog.jsonb_build_object('allow', b.let_in, 'deny', b.denied), 'expires_at', b.expires_at)
               as demand
        from before_rows b
       where b.project_id = project
         and exists (select from memcube.memory_parents l where l.project_id = project and l.parent_id = b.id)
       order by b.depth desc, b.id   -- farthest first: what it hands on may be handed on again
    loop
      insert into memcube.memory_parents (project_id, parent_id, child_id)
      select project, p.id, l.child_id
        from memcube.memory_parents l cross join pg_catalog.unnest(bond.parents) p (id)
       where l.project_id = project and l.parent_id = bond.id
      on conflict do nothing;
      update memcube.memories m
         set governance_own = m.governance_own,
             parents = array(select distinct x from pg_catalog.unnest(m.parents || bond.parents) x
                              where x <> bond.id order by x),
             bound = (select case when m.bound is null then d.demand
                                  else memcube.strictest(m.bound, d.demand) || pg_catalog.jsonb_build_object('expires_at',
                                    least((m.bound ->> 'expires_at')::timestamptz, (d.demand ->> 'expires_at')::timestamptz)) end
                        from (select case when bond.audience > 1 then bond.demand
                                          else pg_catalog.jsonb_set(bond.demand, '{principals,allow}',
                                                 pg_catalog.to_jsonb(bond.let_in || m.created_by)) end as demand) d)
        from memcube.memory_parents l
       where l.project_id = project and l.parent_id = bond.id and not l.child_id = any (gone)
         and m.project_id = project and m.id = l.child_id;
    end loop;
    delete from memcube.memory_parents l where l.project_id = project and l.parent_id = any (gone);
    delete from memcube.memory_parents l where l.project_id = project and l.child_id = any (gone);
    delete from memcube.memory_payloads x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.past_payloads x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.memory_versions x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.memory_text x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.memory_vectors x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.work_queue x where x.project_id = project and x.kind = 'embedding' and x.item_id = any (gone);
    update memcube.idempotency_keys k set status = 404, body = '' where k.about = any (gone) and k.project_id = project;
    update memcube.changes c
       set body = c.body || '{"label": "(purged)", "tags": []}'
     where c.memory_id = any (gone) and c.project_id = project and c.body ? 'label';
    update memcube.insights i
       set insight = '(purged)', label = null, tags = '{}', evidence_refs = '{}', metadata = '{}'
     where i.project_id = project
       and (i.memory_id = any (gone)
            or i.decision is distinct from 'near_duplicate'   -- which has gone over to the memory that stays
               and i.id = any (array(select pg_catalog.substr(b.origin, 9)::uuid from before_rows b
                                      where b.project_id = project and b.origin ~ '^insight:[0-9a-f-]{36}$')));
  end loop;
  perform pg_catalog.set_config('app.project_id', project_before, true);
  return null;
end $$;
create trigger memories_purged after delete on memcube.memories
  referencing old table as before_rows for each statement execute function memcube.on_memories_purged();

-- Everything that was derived from a memory, also what the caller may not read: for who ends it all or nothing. The ids
-- tell nothing that refusing does not.
create function memcube.derived_from(p_id uuid, p_limit int) returns setof uuid
language sql stable security definer set search_path = '' as $$
  with recursive derived (id) as (
    select l.child_id from memcube.memory_parents l
     where l.project_id = pg_catalog.current_setting('app.project_id') and l.parent_id = p_id
    union
    select l.child_id from derived d join memcube.memory_parents l
      on l.project_id = pg_catalog.current_setting('app.project_id') and l.parent_id = d.id
  )
  select id from derived limit p_limit
$$;

-- Objects whose row is gone leave the store at the next sweep.
create function memcube.on_objects_left() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project_before text := coalesce(pg_catalog.current_setting('app.project_id', true), '');
  project text;
  keys text[];
begin
  for project, keys in
    select b.project_id, pg_catalog.array_agg(b.object_key order by b.object_key)
      from before_rows b where b.object_key is not null group by b.project_id order by b.project_id
  loop
    perform pg_catalog.set_config('app.project_id', project, true);
    update memcube.objects o set state = 'leaving', since = pg_catalog.clock_timestamp()
     where o.project_id = project and o.key = any (keys);
  end loop;
  perform pg_catalog.set_config('app.project_id', project_before, true);
  return null;
end $$;
create trigger objects_left after delete on memcube.memory_payloads
  referencing old table as before_rows for each statement execute function memcube.on_objects_left();
create trigger objects_left after delete on memcube.past_payloads
  referencing old table as before_rows for each statement execute function memcube.on_objects_left();
set local role memcube_quota;
grant execute on function memcube.on_payloads_gone() to memcube_owner;
reset role;
create trigger payloads_gone after delete on memcube.past_payloads
  referencing old table as before_rows for each statement execute function memcube.on_payloads_gone();
set local role memcube_quota;
revoke execute on function memcube.on_payloads_gone() from memcube_owner;
reset role;

-- ── the change feed names content and hints among what changed ─────────────────────────────────────

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
               case when a.content_version <> b.content_version then 'content' end,
               case when a.tags <> b.tags then 'tags' end,
               case when a.governance <> b.governance or a.governance_own is distinct from b.governance_own
                         or a.let_in <> b.let_in or a.expires_at is distinct from b.expires_at then 'governance' end,
               case when a.metadata <> b.metadata then 'metadata' end,
               case when a.priority <> b.priority then 'priority' end,
               case when a.lifecycle <> b.lifecycle then 'lifecycle' end,
               case when a.trust <> b.trust then 'trust' end,
               case when a.kv_hint is distinct from b.kv_hint then 'kv_hint' end,
               case when a.version <> b.version then 'version' end,
               case when a.embedding_state <> b.embedding_state and a.version = b.version then 'embedding' end], null)
               as changed,
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
reset role;

-- ── what a reader gets: content wherever it lies, earlier versions, lineage ────────────────────────

set local role memcube_search;
drop function memcube.contents(uuid[]);

-- The content of memories the caller may read, and a mark in the audit trail where their governance asks for one.
create function memcube.contents(p_ids uuid[])
returns table (memory_id uuid, storage_mode text, content text, content_bytes bytea, content_zstd bytea, object_key text,
               blocks bytea, size_bytes int, token_count int, checksum bytea)
language plpgsql security definer rows 20 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  found_one record;
begin
  for found_one in
    select m.version, m.audit_reads, p.memory_id, p.storage_mode, p.content, p.content_bytes, p.content_zstd,
           p.object_key, p.blocks, p.size_bytes, p.token_count, p.checksum
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
    storage_mode := found_one.storage_mode;
    content := found_one.content;
    content_bytes := found_one.content_bytes;
    content_zstd := found_one.content_zstd;
    object_key := found_one.object_key;
    blocks := found_one.blocks;
    size_bytes := found_one.size_bytes;
    token_count := found_one.token_count;
    checksum := found_one.checksum;
    return next;
  end loop;
end $$;

-- The content of one version of a memory the caller may read, the one in force included.
create function memcube.version_contents(p_id uuid, p_version int)
returns table (memory_id uuid, storage_mode text, content text, content_bytes bytea, content_zstd bytea, object_key text,
               blocks bytea, size_bytes int, token_count int, checksum bytea)
language plpgsql security definer rows 1 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  memory record;
begin
  select m.version, m.audit_reads into memory from memcube.memories m
   where m.project_id = project and m.id = p_id and p_version between 1 and m.version;
  if not found then
    return;
  end if;
  if memory.audit_reads then
    insert into memcube.memory_events (project_id, memory_id, kind, version, actor, role, source)
    values (project, p_id, 'ACCESSED', p_version,
            pg_catalog.current_setting('app.principal', true), pg_catalog.current_setting('app.role', true),
            coalesce(pg_catalog.current_setting('app.source', true), ''));
  end if;
  return query
  select x.memory_id, x.storage_mode, x.content, x.content_bytes, x.content_zstd, x.object_key, x.blocks, x.size_bytes,
         x.token_count, x.checksum
    from (select p.version, p.memory_id, p.storage_mode, p.content, p.content_bytes, p.content_zstd, p.object_key,
                 p.blocks, p.size_bytes, p.token_count, p.checksum
            from memcube.memory_payloads p where p.project_id = project and p.memory_id = p_id
          union all
          select p.version, p.memory_id, p.storage_mode, p.content, p.content_bytes, p.content_zstd, p.object_key,
                 p.blocks, p.size_bytes, p.token_count, p.checksum
            from memcube.past_payloads p where p.project_id = project and p.memory_id = p_id) x
   where x.version <= p_version order by x.version desc limit 1;
end $$;

-- Versions of a memory the caller may read, newest first, below p_below. Content is told by its size and checksum only.
create function memcube.versions(p_id uuid, p_below int, p_limit int)
returns table (version int, label text, tags text[], metadata jsonb, governance jsonb, priority text, lifecycle text,
               kv_hint text, by text, at timestamptz, size_bytes int, token_count int, checksum bytea)
language plpgsql stable security definer rows 20 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  if not exists (select from memcube.memories m where m.project_id = project and m.id = p_id) then
    return;
  end if;
  return query
  select v.version, v.label, v.tags, v.metadata, v.governance, v.priority, v.lifecycle, v.kv_hint, v.by, v.at,
         c.size_bytes, c.token_count, c.checksum
    from (select m.version, m.label, m.tags, m.metadata, coalesce(m.governance_own, m.governance) as governance,
                 m.priority, m.lifecycle, m.kv_hint, coalesce(m.updated_by, m.created_by) as by, m.updated_at as at
            from memcube.memories m where m.project_id = project and m.id = p_id
          union all
          select e.version, e.label, e.tags, e.metadata, e.governance, e.priority, e.lifecycle, e.kv_hint, e.by, e.at
            from memcube.memory_versions e where e.project_id = project and e.memory_id = p_id) v
   cross join lateral (
     select x.size_bytes, x.token_count, x.checksum
       from (select p.version, p.size_bytes, p.token_count, p.checksum
               from memcube.memory_payloads p where p.project_id = project and p.memory_id = p_id
             union all
             select p.version, p.size_bytes, p.token_count, p.checksum
               from memcube.past_payloads p where p.project_id = project and p.memory_id = p_id) x
      where x.version <= v.version order by x.version desc limit 1) c
   where v.version < p_below
   order by v.version desc limit p_limit;
end $$;

-- What a memory was derived from (distance below 0) and what was derived from it (above 0), over memories the caller may
-- read: what they may not read ends a line. At most p_steps steps and p_limit memories each way.
create function memcube.lineage(p_id uuid, p_steps int, p_limit int)
returns table (memory_id uuid, distance int)
language plpgsql stable security definer rows 20 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  frontier uuid[];
  met uuid[];
  way int;
begin
  foreach way in array array[-1, 1] loop
    select pg_catalog.array_agg(m.id) into frontier from memcube.memories m where m.project_id = project and m.id = p_id;
    met := frontier;
    for step in 1 .. p_steps loop
      exit when frontier is null;
      select pg_catalog.array_agg(f.id order by f.id) into frontier
        from (select distinct m.id
                from pg_catalog.unnest(frontier) as s (id)
               cross join lateral (
                 select l.parent_id as id from memcube.memory_parents l
                  where way < 0 and l.project_id = project and l.child_id = s.id
                 union all
                 select l.child_id from memcube.memory_parents l
                  where way > 0 and l.project_id = project and l.parent_id = s.id) l
               cross join lateral (select x.id from memcube.memories x
                                    where x.project_id = project and x.id = l.id limit 1) m
               where not m.id = any (met)
               limit p_limit - (pg_catalog.cardinality(met) - 1)) f;
      return query select f.id, way * step from pg_catalog.unnest(frontier) as f (id);
      met := met || frontier;
      exit when pg_catalog.cardinality(met) > p_limit;
    end loop;
  end loop;
end $$;
revoke execute on function memcube.contents(uuid[]), memcube.version_contents(uuid, int),
  memcube.versions(uuid, int, int), memcube.lineage(uuid, int, int) from public;
grant execute on function memcube.contents(uuid[]) to memcube_user, memcube_anon;
grant execute on function memcube.version_contents(uuid, int), memcube.versions(uuid, int, int),
  memcube.lineage(uuid, int, int) to memcube_user;
reset role;
create index changes_memory on memcube.changes (memory_id) where memory_id is not null;
create index memory_parents_child on memcube.memory_parents (child_id, project_id);

revoke execute on function
  memcube.on_memory_revised(), memcube.on_memories_purged(), memcube.on_objects_left(), memcube.derived_from(uuid, int),
  memcube.revise_content(uuid, text, text, text, bytea, bytea, text, bytea, int, int, bytea) from public;
grant execute on function
  memcube.revise_content(uuid, text, text, text, bytea, bytea, text, bytea, int, int, bytea) to memcube_user, memcube_worker;
grant execute on function memcube.derived_from(uuid, int) to memcube_user;
grant create on schema memcube to memcube_governor;
alter function memcube.derived_from(uuid, int) owner to memcube_governor;
alter function memcube.on_memory_revised() owner to memcube_governor;
alter function memcube.on_memories_purged() owner to memcube_governor;
alter function memcube.on_objects_left() owner to memcube_governor;
alter function memcube.revise_content(uuid, text, text, text, bytea, bytea, text, bytea, int, int, bytea)
  owner to memcube_governor;
revoke create on schema memcube from memcube_feed, memcube_search, memcube_governor;

-- ── grants and policies ────────────────────────────────────────────────────────────────────────────

grant delete on memcube.memories to memcube_user;
grant update (content_version) on memcube.memories to memcube_user, memcube_worker;
revoke update on memcube.memory_payloads from memcube_worker;
grant select, insert, update (state) on memcube.objects to memcube_user;
grant select, insert, update (state, since), delete on memcube.objects to memcube_worker;
grant select on memcube.memory_versions, memcube.past_payloads, memcube.memory_parents to memcube_search;
grant select, insert, update, delete on memcube.memory_payloads to memcube_governor;
grant select, insert, delete on memcube.memory_versions, memcube.past_payloads to memcube_governor;
grant update (bound, parents) on memcube.memories to memcube_governor;
grant select (seq, day, project_id, memory_id, body), update (body) on memcube.changes to memcube_governor;
grant delete on memcube.memory_text, memcube.memory_vectors, memcube.memory_parents to memcube_governor;
grant update (tags, tsv) on memcube.memory_text to memcube_governor;
grant update (tags) on memcube.memory_vectors to memcube_governor;
grant select, insert, update (due_at, attempts), delete on memcube.work_queue to memcube_governor;
grant select (project_id, about), update (status, body) on memcube.idempotency_keys to memcube_governor;
grant select (project_id, memory_id), update (insight, label, tags, evidence_refs, metadata)
  on memcube.insights to memcube_governor;
grant select, update (state, since) on memcube.objects to memcube_governor;
grant select (id, language) on memcube.projects to memcube_governor;

-- A memory is ended by OWNER, ADMIN and SERVICE, and by who made it.
create policy maker_delete on memcube.memories for delete to memcube_user
  using (project_id = current_setting('app.project_id', true) and (
    current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
    or current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])
       and created_by = current_setting('app.principal', true)
       and not current_setting('app.principal', true) = any (denied)));

-- An object is brought by whoever may write memories; its key is the memory's own, made up at random.
create policy writer_select on memcube.objects for select to memcube_user
  using (project_id = current_setting('app.project_id', true)
         and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]));
create policy writer_insert on memcube.objects for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true) and state = 'arriving'
              and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]));
create policy writer_update on memcube.objects for update to memcube_user
  using (project_id = current_setting('app.project_id', true) and state = 'arriving'
         and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]))
  with check (project_id = current_setting('app.project_id', true) and state = 'kept');

do $$
declare
  grant_of text[];
  command text;
  own constant text := 'project_id = current_setting(''app.project_id'', true)';
begin
  foreach grant_of slice 1 in array array[
    ['memory_versions', 'memcube_search', 'select'],
    ['memory_versions', 'memcube_governor', 'select insert delete'],
    ['past_payloads', 'memcube_search', 'select'],
    ['past_payloads', 'memcube_governor', 'select insert delete'],
    ['memory_parents', 'memcube_search', 'select'],
    ['memory_parents', 'memcube_governor', 'delete'],
    ['memory_payloads', 'memcube_governor', 'select insert update delete'],
    ['memory_text', 'memcube_governor', 'delete'],
    ['memory_vectors', 'memcube_governor', 'delete'],
    ['work_queue', 'memcube_governor', 'select insert update delete'],
    ['idempotency_keys', 'memcube_governor', 'select update'],
    ['insights', 'memcube_governor', 'select update'],
    ['changes', 'memcube_governor', 'select update'],
    ['objects', 'memcube_governor', 'select update'],
    ['objects', 'memcube_worker', 'select insert update delete']
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
drop policy worker_update on memcube.memory_payloads;


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
