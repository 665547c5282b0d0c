-- migrate:up

-- Which memories a task read and wrote, and memories in an order of their own. Neither says who may read a memory:
-- both are reached through functions that ask `memories`, under the policy that governs readers, and a request has no
-- right on the rows themselves. What is linked or chained leaves with its memory.
create table memcube.memory_task_links (
  project_id text not null,
  task_id    text collate "C" not null check (task_id ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'),
  memory_id  uuid not null,
  role       text not null check (role in ('READ', 'WRITE')),
  created_by text not null,
  created_at timestamptz not null default now(),
  primary key (project_id, task_id, memory_id, role),
  foreign key (project_id, memory_id) references memcube.memories (project_id, id) on delete cascade
);
create index memory_task_links_memory on memcube.memory_task_links (memory_id, project_id, task_id);

create table memcube.chains (
  project_id  text not null,
  id          uuid not null,
  name        text not null,
  description text,
  visibility  text not null check (visibility in ('private', 'project')),
  write_roles text[] not null default '{}' check (write_roles <@ '{MEMBER,AGENT}'::text[]),
  version     int not null default 1 check (version >= 1),
  created_by  text not null,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  primary key (project_id, id)
);
comment on column memcube.chains.write_roles is 'Who may change it beside its maker and OWNER, ADMIN and SERVICE.';

create table memcube.chain_items (
  project_id text not null,
  chain_id   uuid not null,
  memory_id  uuid not null,
  place      int not null,
  added_by   text not null,
  added_at   timestamptz not null default now(),
  primary key (project_id, chain_id, memory_id),
  unique (project_id, chain_id, place) deferrable initially immediate,
  foreign key (project_id, chain_id) references memcube.chains (project_id, id) on delete cascade,
  foreign key (project_id, memory_id) references memcube.memories (project_id, id) on delete cascade
);
create index chain_items_memory on memcube.chain_items (memory_id, project_id);
comment on column memcube.chain_items.place is 'Order only: a reader counts what they see.';

do $$
declare t text;
begin
  foreach t in array array['memory_task_links', 'chains', 'chain_items'] loop
    execute format('alter table memcube.%I enable row level security', t);
    execute format('alter table memcube.%I force row level security', t);
  end loop;
end $$;

-- ── tasks ──────────────────────────────────────────────────────────────────────────────────────────

-- Link memories to a task: those the caller may read; with the role WRITE, those they may write. What is linked already
-- stays as it is. Says of each memory found whether it may be linked, and whether the link is new.
create function memcube.link_memories(p_task text, p_role text, p_ids uuid[])
returns table (memory_id uuid, allowed boolean, is_new boolean)
language plpgsql security definer rows 20 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  principal text := pg_catalog.current_setting('app.principal', true);
  own_role text := pg_catalog.current_setting('app.role', true);
begin
  return query
  with met as (
    select m.id, p_role = 'READ' or own_role in ('OWNER', 'ADMIN', 'SERVICE')
                 or own_role in ('MEMBER', 'AGENT') and (m.created_by = principal or own_role = any (m.write_roles)) as may
      from (select distinct u.id from pg_catalog.unnest(p_ids) u (id)) w
     cross join lateral (select x.id, x.created_by, x.write_roles from memcube.memories x
                          where x.project_id = project and x.id = w.id limit 1) m
  ), made as (
    insert into memcube.memory_task_links as l (project_id, task_id, memory_id, role, created_by)
    select project, p_task, met.id, p_role, principal from met where met.may order by met.id
    on conflict do nothing
    returning l.memory_id
  )
  select met.id, met.may, made.memory_id is not null from met left join made on made.memory_id = met.id order by met.id;
end $$;

-- Take a memory off a task, as READ, WRITE or (null) both, under the rule by which it is linked. Says of each link
-- found whether it might be taken off, and was.
create function memcube.unlink_memory(p_task text, p_id uuid, p_role text)
returns table (role text, allowed boolean)
language plpgsql security definer rows 2 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  principal text := pg_catalog.current_setting('app.principal', true);
  own_role text := pg_catalog.current_setting('app.role', true);
begin
  return query
  with met as (
    select l.role, own_role in ('OWNER', 'ADMIN', 'SERVICE') or own_role in ('MEMBER', 'AGENT')
                   and (l.role = 'READ' or m.created_by = principal or own_role = any (m.write_roles)) as may
      from memcube.memory_task_links l
     cross join lateral (select x.created_by, x.write_roles from memcube.memories x
                          where x.project_id = project and x.id = l.memory_id limit 1) m
     where l.project_id = project and l.task_id = p_task and l.memory_id = p_id and l.role = coalesce(p_role, l.role)
  ), gone as (
    delete from memcube.memory_task_links l using met
     where l.project_id = project and l.task_id = p_task and l.memory_id = p_id and l.role = met.role and met.may
  )
  select met.role, met.may from met;
end $$;

-- Links of a task to memories the caller may read, newest memory first, of at most p_limit memories below p_below.
create function memcube.task_memories(p_task text, p_role text, p_below uuid, p_limit int)
returns table (memory_id uuid, role text, created_by text, created_at timestamptz)
language plpgsql stable security definer rows 50 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return query
  select l.memory_id, l.role, l.created_by, l.created_at
    from (select x.memory_id from memcube.memory_task_links x
           where x.project_id = project and x.task_id = p_task and (p_role is null or x.role = p_role)
             and (p_below is null or x.memory_id < p_below)
             and exists (select from memcube.memories m where m.project_id = project and m.id = x.memory_id offset 0)
           group by x.memory_id order by x.memory_id desc limit p_limit) page
    join memcube.memory_task_links l
      on l.project_id = project and l.task_id = p_task and l.memory_id = page.memory_id
     and (p_role is null or l.role = p_role)
   order by l.memory_id desc, l.role;
end $$;

-- Links of a memory, if the caller may read it, by task: of at most p_limit tasks after p_after.
create function memcube.memory_tasks(p_id uuid, p_after text, p_limit int)
returns table (task_id text, role text, created_by text, created_at timestamptz)
language plpgsql stable security definer rows 20 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  if not exists (select from memcube.memories m where m.project_id = project and m.id = p_id) then
    return;
  end if;
  return query
  select l.task_id, l.role, l.created_by, l.created_at
    from (select distinct x.task_id from memcube.memory_task_links x
           where x.project_id = project and x.memory_id = p_id and x.task_id > p_after
           order by x.task_id limit p_limit) page
    join memcube.memory_task_links l
      on l.project_id = project and l.task_id = page.task_id and l.memory_id = p_id
   order by l.task_id, l.role;
end $$;

-- Tasks with the number of memories they read and wrote, as far as the caller may read them; others are not there.
create function memcube.tasks(p_after text, p_limit int)
returns table (task_id text, reads bigint, writes bigint, linked_at timestamptz)
language plpgsql stable security definer rows 50 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return query
  select l.task_id, count(*) filter (where l.role = 'READ'), count(*) filter (where l.role = 'WRITE'), max(l.created_at)
    from memcube.memory_task_links l
   where l.project_id = project and l.task_id > p_after
     and exists (select from memcube.memories m where m.project_id = project and m.id = l.memory_id offset 0)
   group by l.task_id order by l.task_id limit p_limit;
end $$;

-- ── chains ─────────────────────────────────────────────────────────────────────────────────────────

-- Make a chain of memories the caller may read, in the order given; 'missing' where they may not read one.
create function memcube.begin_chain(p_id uuid, p_name text, p_description text, p_visibility text, p_write_roles text[],
                                    p_shown uuid[]) returns text
language plpgsql security definer set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  principal text := pg_catalog.current_setting('app.principal', true);
begin
  if (select count(*) from pg_catalog.unnest(p_shown) w (id)
       cross join lateral (select from memcube.memories x where x.project_id = project and x.id = w.id limit 1) m)
     < pg_catalog.cardinality(p_shown) then
    return 'missing';
  end if;
  -- One statement, so that what is announced at its end knows both.
  with made as (
    insert into memcube.chains (project_id, id, name, description, visibility, write_roles, created_by)
    values (project, p_id, p_name, p_description, p_visibility, p_write_roles, principal)
  )
  insert into memcube.chain_items (project_id, chain_id, memory_id, place, added_by)
  select project, p_id, w.id, w.n, principal from pg_catalog.unnest(p_shown) with ordinality w (id, n);
  return 'made';
end $$;

-- Make a chain show its caller exactly these memories in this order: what they see and is not named leaves it, what is
-- named and not in it comes in. What they do not see stays directly behind the item it followed, or behind the nearest
-- one before that is still there. Null where they may not change the chain, 'missing' where a memory is not theirs to
-- read, 'full' where the chain would be longer than p_most; then nothing was done.
create function memcube.arrange_chain(p_chain uuid, p_shown uuid[], p_most int) returns text
language plpgsql security definer set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  principal text := pg_catalog.current_setting('app.principal', true);
  ids uuid[];
  places int[];
  left_ids uuid[];
begin
  perform from memcube.chains c where c.project_id = project and c.id = p_chain for update;
  if not found then
    return null;
  end if;
  if (select count(*) from pg_catalog.unnest(p_shown) w (id)
       cross join lateral (select from memcube.memories x where x.project_id = project and x.id = w.id limit 1) m)
     < pg_catalog.cardinality(p_shown) then
    return 'missing';
  end if;
  with there as (
    select i.memory_id, i.place,
           exists (select from memcube.memories m where m.project_id = project and m.id = i.memory_id offset 0) as seen
      from memcube.chain_items i where i.project_id = project and i.chain_id = p_chain
  ), wanted as (
    select w.id, w.n from pg_catalog.unnest(p_shown) with ordinality w (id, n)
  ), ordered as (
    select wanted.id, wanted.n as shown, 0 as behind from wanted
    union all
    select h.memory_id, coalesce((select w.n from there v join wanted w on w.id = v.memory_id
                                   where v.seen and v.place < h.place order by v.place desc limit 1), 0), h.place
      from there h where not h.seen
  ), numbered as (
    select o.id, row_number() over (order by o.shown, o.behind) as place from ordered o
  )
  select pg_catalog.array_agg(n.id order by n.place), pg_catalog.array_agg(n.place::int order by n.place),
         (select pg_catalog.array_agg(t.memory_id) from there t where t.seen and not t.memory_id = any (p_shown))
    into ids, places, left_ids from numbered n;
  if pg_catalog.cardinality(ids) > p_most then
    return 'full';
  end if;
  delete from memcube.chain_items i
   where i.project_id = project and i.chain_id = p_chain and i.memory_id = any (left_ids);
  insert into memcube.chain_items (project_id, chain_id, memory_id, place, added_by)
  select project, p_chain, w.id, 1000000 + w.n, principal
    from pg_catalog.unnest(p_shown) with ordinality w (id, n)
   where not exists (select from memcube.chain_items i
                      where i.project_id = project and i.chain_id = p_chain and i.memory_id = w.id);
  update memcube.chain_items i set place = n.place
    from unnest(ids, places) n (id, place)
   where i.project_id = project and i.chain_id = p_chain and i.memory_id = n.id and i.place <> n.place;
  update memcube.chains c set version = c.version + 1, updated_at = pg_catalog.now()
   where c.project_id = project and c.id = p_chain;
  return 'arranged';
end $$;

-- The items of chains the caller may read, in order: those whose memory they may read.
create function memcube.chain_members(p_chains uuid[])
returns table (chain_id uuid, memory_id uuid, token_count int, added_by text, added_at timestamptz)
language plpgsql stable security definer rows 100 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return query
  select i.chain_id, i.memory_id, coalesce(p.token_count, 0), i.added_by, i.added_at
    from memcube.chains c
    join memcube.chain_items i on i.project_id = project and i.chain_id = c.id
   cross join lateral (select from memcube.memories x where x.project_id = project and x.id = i.memory_id limit 1) m
    left join lateral (select x.token_count from memcube.memory_payloads x
                        where x.project_id = project and x.memory_id = i.memory_id limit 1) p on true
   where c.project_id = project and c.id = any (p_chains)
   order by i.chain_id, i.place;
end $$;

-- Who may read and change a chain is said by its maker; of everybody else, by OWNER, ADMIN and SERVICE.
create function memcube.guard_chain() returns trigger
language plpgsql set search_path = '' as $$
begin
  if current_user = 'memcube_user' and current_setting('app.role', true) not in ('OWNER', 'ADMIN', 'SERVICE')
     and old.created_by <> current_setting('app.principal', true) then
    raise exception using errcode = 'insufficient_privilege', message = 'the governance of a chain is its maker''s';
  end if;
  return new;
end $$;
create trigger b_guard before update of visibility, write_roles on memcube.chains
  for each row when ((old.visibility, old.write_roles) is distinct from (new.visibility, new.write_roles))
  execute function memcube.guard_chain();

-- ── the change feed ────────────────────────────────────────────────────────────────────────────────

-- A link concerns whom its memory concerns. Of a memory that is gone nothing is told: its purge says it.
create function memcube.on_tasks_linked() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  actor text := coalesce(nullif(pg_catalog.current_setting('app.principal', true), ''), session_user);
begin
  perform memcube.enter_feed();
  if tg_op = 'INSERT' then
    insert into memcube.changes (project_id, type, body, memory_id, audience, visibility, read_roles, let_in, denied)
    select l.project_id, 'task.v1.linked', pg_catalog.jsonb_build_object(
             'memory_id', l.memory_id, 'task_id', l.task_id, 'role', l.role, 'actor', actor),
           l.memory_id, case when m.shut then 2 else m.audience end, case when m.shut then 'private' else m.visibility end,
           m.read_roles, case when m.shut then '{}' else m.let_in end, m.denied
      from after_rows l
     cross join lateral (select x.audience, x.visibility, x.read_roles, x.let_in, x.denied,
                                x.trust = 'quarantined' or x.lifecycle = 'EXPIRED'
                                or coalesce(x.expires_at <= now(), false) as shut
                           from memcube.memories x where x.project_id = l.project_id and x.id = l.memory_id limit 1) m
     order by l.task_id, l.memory_id, l.role;
  else
    insert into memcube.changes (project_id, type, body, memory_id, audience, visibility, read_roles, let_in, denied)
    select l.project_id, 'task.v1.unlinked', pg_catalog.jsonb_build_object(
             'memory_id', l.memory_id, 'task_id', l.task_id, 'role', l.role, 'actor', actor),
           l.memory_id, case when m.shut then 2 else m.audience end, case when m.shut then 'private' else m.visibility end,
           m.read_roles, case when m.shut then '{}' else m.let_in end, m.denied
      from before_rows l
     cross join lateral (select x.audience, x.visibility, x.read_roles, x.let_in, x.denied,
                                x.trust = 'quarantined' or x.lifecycle = 'EXPIRED'
                                or coalesce(x.expires_at <= now(), false) as shut
                           from memcube.memories x where x.project_id = l.project_id and x.id = l.memory_id limit 1) m
     order by l.task_id, l.memory_id, l.role;
  end if;
  return null;
end $$;
create trigger tasks_linked after insert on memcube.memory_task_links
  referencing new table as after_rows for each statement execute function memcube.on_tasks_linked();
create trigger tasks_unlinked after delete on memcube.memory_task_links
  referencing old table as before_rows for each statement execute function memcube.on_tasks_linked();

-- A chain's change says how many of its items everybody may read who is told of it: those restricted are not counted.
-- What a chain was called goes with it.
create function memcube.on_chains_written() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  actor text := coalesce(nullif(pg_catalog.current_setting('app.principal', true), ''), session_user);
begin
  perform memcube.enter_feed();
  if tg_op = 'DELETE' then
    insert into memcube.changes (project_id, type, body, audience, visibility, read_roles, let_in)
    select c.project_id, 'chain.v1.deleted', pg_catalog.jsonb_build_object(
             'chain_id', c.id, 'version', c.version, 'name', '(deleted)', 'items', 0, 'actor', actor),
           case c.visibility when 'project' then 1 else 2 end, c.visibility, '{MEMBER,AGENT}', array[c.created_by]
      from before_rows c order by c.id;
  elsif tg_op = 'INSERT' then
    insert into memcube.changes (project_id, type, body, audience, visibility, read_roles, let_in)
    select c.project_id, 'chain.v1.created', pg_catalog.jsonb_build_object(
             'chain_id', c.id, 'version', c.version, 'name', c.name, 'actor', actor,
             'items', memcube.open_items(c.project_id, c.id)),
           case c.visibility when 'project' then 1 else 2 end, c.visibility, '{MEMBER,AGENT}', array[c.created_by]
      from after_rows c order by c.id;
  else
    insert into memcube.changes (project_id, type, body, audience, visibility, read_roles, let_in)
    select a.project_id, 'chain.v1.updated', pg_catalog.jsonb_build_object(
             'chain_id', a.id, 'version', a.version, 'name', a.name, 'actor', actor,
             'items', memcube.open_items(a.project_id, a.id),
             'changed', case when said.changed = '{}' then '{items}' else said.changed end),
           case a.visibility when 'project' then 1 else 2 end, a.visibility, '{MEMBER,AGENT}', array[a.created_by]
      from after_rows a join before_rows b on b.project_id = a.project_id and b.id = a.id
     cross join lateral (select pg_catalog.array_remove(array[
             case when a.name <> b.name then 'name' end,
             case when a.description is distinct from b.description then 'description' end,
             case when (a.visibility, a.write_roles) is distinct from (b.visibility, b.write_roles) then 'governance' end],
             null) as changed) said
     where a.version <> b.version
     order by a.id;
  end if;
  return null;
end $$;

-- How many items of a chain hold a memory that at least every MEMBER and AGENT may read.
create function memcube.open_items(p_project text, p_chain uuid) returns bigint
language sql stable set search_path = '' as $$
  select count(*) from memcube.chain_items i
   cross join lateral (select from memcube.memories x
                        where x.project_id = p_project and x.id = i.memory_id and x.audience <= 1
                          and x.lifecycle <> 'EXPIRED' and (x.expires_at is null or x.expires_at > now()) limit 1) m
   where i.project_id = p_project and i.chain_id = p_chain
$$;
create trigger chains_inserted after insert on memcube.chains
  referencing new table as after_rows for each statement execute function memcube.on_chains_written();
create trigger chains_updated after update on memcube.chains
  referencing old table as before_rows new table as after_rows for each statement execute function memcube.on_chains_written();
create trigger chains_deleted after delete on memcube.chains
  referencing old table as before_rows for each statement execute function memcube.on_chains_written();

-- ── owners, grants, policies ───────────────────────────────────────────────────────────────────────

revoke execute on function
  memcube.link_memories(text, text, uuid[]), memcube.unlink_memory(text, uuid, text),
  memcube.task_memories(text, text, uuid, int), memcube.memory_tasks(uuid, text, int), memcube.tasks(text, int),
  memcube.begin_chain(uuid, text, text, text, text[], uuid[]), memcube.arrange_chain(uuid, uuid[], int),
  memcube.chain_members(uuid[]), memcube.guard_chain(), memcube.on_tasks_linked(), memcube.on_chains_written(),
  memcube.open_items(text, uuid) from public;
grant execute on function
  memcube.link_memories(text, text, uuid[]), memcube.unlink_memory(text, uuid, text),
  memcube.task_memories(text, text, uuid, int), memcube.memory_tasks(uuid, text, int), memcube.tasks(text, int),
  memcube.begin_chain(uuid, text, text, text, text[], uuid[]), memcube.arrange_chain(uuid, uuid[], int),
  memcube.chain_members(uuid[]) to memcube_user;
grant execute on function memcube.open_items(text, uuid) to memcube_feed;

grant create on schema memcube to memcube_search, memcube_feed;
alter function memcube.link_memories(text, text, uuid[]) owner to memcube_search;
alter function memcube.unlink_memory(text, uuid, text) owner to memcube_search;
alter function memcube.task_memories(text, text, uuid, int) owner to memcube_search;
alter function memcube.memory_tasks(uuid, text, int) owner to memcube_search;
alter function memcube.tasks(text, int) owner to memcube_search;
alter function memcube.begin_chain(uuid, text, text, text, text[], uuid[]) owner to memcube_search;
alter function memcube.arrange_chain(uuid, uuid[], int) owner to memcube_search;
alter function memcube.chain_members(uuid[]) owner to memcube_search;
alter function memcube.on_tasks_linked() owner to memcube_feed;
alter function memcube.on_chains_written() owner to memcube_feed;
revoke create on schema memcube from memcube_search, memcube_feed;

grant select, insert, delete on memcube.memory_task_links to memcube_search;
grant select, update (name, description, visibility, write_roles, version, updated_at), delete on memcube.chains to memcube_user;
grant select, insert, update (version, updated_at) on memcube.chains to memcube_search;
grant select, insert, update (place), delete on memcube.chain_items to memcube_search;
grant select (project_id, id, audience, visibility, read_roles, let_in, denied, trust, lifecycle, expires_at)
  on memcube.memories to memcube_feed;
grant select on memcube.chain_items to memcube_feed;

-- A task's links are made under the caller's own name, by those who may bring something in.
create policy search_select on memcube.memory_task_links for select to memcube_search
  using (project_id = current_setting('app.project_id', true));
create policy search_insert on memcube.memory_task_links for insert to memcube_search
  with check (project_id = current_setting('app.project_id', true)
              and created_by = current_setting('app.principal', true)
              and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]));
create policy search_delete on memcube.memory_task_links for delete to memcube_search
  using (project_id = current_setting('app.project_id', true)
         and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]));

-- A chain is read by its maker and, unless private, by MEMBER and AGENT; changed by its maker and the roles it names;
-- ended by its maker. OWNER, ADMIN and SERVICE do all of it.
create policy reader_select on memcube.chains for select to memcube_user, memcube_search
  using (project_id = current_setting('app.project_id', true) and (
    current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
    or created_by = current_setting('app.principal', true) and current_setting('app.role', true) <> 'PUBLIC'
    or visibility = 'project' and current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])));
create policy maker_insert on memcube.chains for insert to memcube_search
  with check (project_id = current_setting('app.project_id', true)
              and created_by = current_setting('app.principal', true)
              and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]));
create policy writer_update on memcube.chains for update to memcube_user, memcube_search
  using (project_id = current_setting('app.project_id', true) and (
    current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
    or current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])
       and (created_by = current_setting('app.principal', true)
            or visibility = 'project' and current_setting('app.role', true) = any (write_roles))))
  with check (project_id = current_setting('app.project_id', true));
create policy maker_delete on memcube.chains for delete to memcube_user
  using (project_id = current_setting('app.project_id', true) and (
    current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
    or current_setting('app.role', true) = any ('{MEMBER,AGENT}'::text[])
       and created_by = current_setting('app.principal', true)));

do $$
declare
  command text;
  own constant text := 'project_id = current_setting(''app.project_id'', true)';
begin
  foreach command in array array['select', 'insert', 'update', 'delete'] loop
    execute format('create policy search_%s on memcube.chain_items for %s to memcube_search %s', command, command,
      case command when 'insert' then format('with check (%s)', own)
                   when 'update' then format('using (%s) with check (%s)', own, own)
                   else format('using (%s)', own) end);
  end loop;
end $$;

-- What the feed has to know of a memory and a chain to say whom their change concerns, by any hand.
create policy feed_select on memcube.memories for select to memcube_feed
  using (project_id = current_setting('app.project_id', true) or current_setting('app.project_id', true) is null
         or current_setting('app.project_id', true) = '');
create policy feed_select on memcube.chain_items for select to memcube_feed
  using (project_id = current_setting('app.project_id', true) or current_setting('app.project_id', true) is null
         or current_setting('app.project_id', true) = '');

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
