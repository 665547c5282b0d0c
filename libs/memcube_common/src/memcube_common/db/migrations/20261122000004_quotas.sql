-- migrate:up

-- What a project may hold and do, counted so that no concurrency can overshoot it and writers of one project do not
-- wait for each other: the escrow method (O'Neil, "The Escrow Transactional Method", ACM TODS 11(4), 1986). The
-- maximum is handed out in shares to 16 slots; a writer takes from the slot of its connection with one conditional
-- UPDATE. Only where a slot's share does not do are all slots locked, in order, and the exact total decides; then what is
-- left is handed out anew.

-- ── tables ─────────────────────────────────────────────────────────────────────────────────────────

create table memcube.quotas (
  project_id   text not null references memcube.projects (id) on delete cascade,
  resource     text not null check (resource in ('memories', 'bytes', 'insights_per_day', 'packs')),
  max          bigint check (max >= 0),
  day          date not null,
  warned_at    timestamptz,
  exhausted_at timestamptz,
  primary key (project_id, resource)
);
comment on table memcube.quotas is 'What a project may hold; no row means the default and nothing used yet.';
comment on column memcube.quotas.max is 'null: unlimited.';
comment on column memcube.quotas.day is 'The UTC day a daily resource is counted for; 1970-01-01 for the others.';
comment on column memcube.quotas.warned_at is 'When 80 % was announced; forgotten below 70 %, with a new day or a new maximum.';
comment on column memcube.quotas.exhausted_at is 'When the end was announced; forgotten below 90 %, with a new day or a new maximum.';

-- Invariants: used <= share wherever anything was taken from a share; the shares sum up to less than what must be
-- announced next (80 %, then 100 %), so that passing it always goes the exact way. `used` may be negative: what was
-- taken from one slot may be given back to another.
create table memcube.quota_slots (
  project_id text not null references memcube.projects (id) on delete cascade,
  resource   text not null check (resource in ('memories', 'bytes', 'insights_per_day', 'packs')),
  slot       smallint not null check (slot between 0 and 15),
  day        date not null,
  used       bigint not null default 0,
  share      bigint not null default 0,
  primary key (project_id, resource, slot)
) with (fillfactor = 25, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);

-- ── functions ──────────────────────────────────────────────────────────────────────────────────────

-- What a resource allows where the operator said nothing.
create function memcube.quota_default(p_resource text) returns bigint
language sql immutable set search_path = '' as $$
  select case p_resource when 'memories' then 1000000
                         when 'bytes' then 10737418240
                         when 'insights_per_day' then 1000000
                         when 'packs' then 1000 end
$$;

-- The day this transaction counts a resource for.
create function memcube.quota_day(p_resource text) returns date
language sql stable set search_path = '' as $$
  select case p_resource when 'insights_per_day' then (pg_catalog.now() at time zone 'utc')::date
                         else date '1970-01-01' end
$$;

create function memcube.announce_quota(p_type text, p_resource text, p_used bigint, p_max bigint) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform memcube.enter_feed();
  insert into memcube.changes (project_id, type, body)
  values (pg_catalog.current_setting('app.project_id'), p_type,
          pg_catalog.jsonb_build_object('resource', p_resource, 'used', p_used, 'max', p_max));
end $$;

-- Make a project's row and slots, with what it holds already; what this very transaction wrote it counts itself.
create function memcube.open_quota(p_resource text) returns void
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  mine bigint := pg_catalog.pg_current_xact_id()::text::bigint & 4294967295;
  held bigint := 0;
begin
  insert into memcube.quotas (project_id, resource, max, day)
  values (project, p_resource, memcube.quota_default(p_resource), memcube.quota_day(p_resource))
  on conflict do nothing;
  if not found then   -- somebody else has made it, and committed
    return;
  end if;
  if p_resource = 'memories' then
    select count(*) into held from memcube.memories m where m.project_id = project and m.xmin::text::bigint <> mine;
  elsif p_resource = 'bytes' then
    select coalesce(sum(p.size_bytes), 0) into held
      from memcube.memory_payloads p where p.project_id = project and p.xmin::text::bigint <> mine;
  end if;
  insert into memcube.quota_slots (project_id, resource, slot, day, used)
  select project, p_resource, s, memcube.quota_day(p_resource), case when s = 0 then held else 0 end
    from pg_catalog.generate_series(0, 15) as s;
end $$;

-- The exact way: lock everything, decide about `p_amount` on the exact total, announce what was passed, hand out anew.
-- Returns whether it was taken. Positive: take. Negative: give back. 0: look only (after a refusal, with a new
-- maximum), and then, as when giving back, marks far behind the total are forgotten.
create function memcube.settle_quota(p_resource text, p_amount bigint, p_refused boolean) returns boolean
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  own int := pg_catalog.pg_backend_pid() % 16;
  q memcube.quotas;
  total bigint;
  room bigint;
begin
  select * into q from memcube.quotas where project_id = project and resource = p_resource for update;
  if not found then
    perform memcube.open_quota(p_resource);
    select * into strict q from memcube.quotas where project_id = project and resource = p_resource for update;
  end if;
  perform from memcube.quota_slots where project_id = project and resource = p_resource order by slot for update;
  if q.day < memcube.quota_day(p_resource) then
    q.day := memcube.quota_day(p_resource);
    q.warned_at := null;
    q.exhausted_at := null;
    update memcube.quota_slots set used = 0, day = q.day where project_id = project and resource = p_resource;
  end if;
  select sum(used) into strict total from memcube.quota_slots where project_id = project and resource = p_resource;
  if p_amount > 0 and total + p_amount > q.max then
    return false;
  end if;
  total := total + p_amount;

  if q.max is null or (p_amount <= 0 and not p_refused and total < q.max - 3 * (q.max / 10)) then
    q.warned_at := null;
  end if;
  if q.max is null or (p_amount <= 0 and not p_refused and total < q.max - q.max / 10) then
    q.exhausted_at := null;
  end if;
  if total >= q.max - q.max / 5 and q.warned_at is null then
    q.warned_at := pg_catalog.clock_timestamp();
    perform memcube.announce_quota('quota.v1.warned', p_resource, total, q.max);
  end if;
  if (total >= q.max or p_refused) and q.exhausted_at is null and q.max is not null then
    q.exhausted_at := pg_catalog.clock_timestamp();
    perform memcube.announce_quota('quota.v1.exhausted', p_resource, total, q.max);
  end if;

  room := greatest(0, case when q.max is null then 4611686018427387904
                           when q.warned_at is null then q.max - q.max / 5 - 1
                           when q.exhausted_at is null then q.max - 1
                           else q.max end - total);
  update memcube.quotas set day = q.day, warned_at = q.warned_at, exhausted_at = q.exhausted_at
   where project_id = project and resource = p_resource;
  update memcube.quota_slots s
     set used = s.used + case when s.slot = own then p_amount else 0 end,
         share = s.used + case when s.slot = own then p_amount else 0 end
                 + room / 16 + case when s.slot < room % 16 then 1 else 0 end
   where s.project_id = project and s.resource = p_resource;
  return true;
end $$;

-- Take several resources for the transaction's project; the first there is not enough of, or null where all were taken.
-- Taken is what commits: a rollback gives back by itself. The quick way is a subtransaction, because an UPDATE that
-- waited and then found its condition untrue keeps the row locked: undone, nothing is held while the exact way is
-- waited for, and nobody who holds a slot waits for who wants them all.
create function memcube.take_quotas(p_resources text[], p_amounts bigint[]) returns text
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  own int := pg_catalog.pg_backend_pid() % 16;
  today date := (pg_catalog.now() at time zone 'utc')::date;   -- as quota_day says, without a call for each
begin
  if 0 > any (p_amounts) then   -- what is given back, the deletion gives back
    raise invalid_parameter_value using message = 'nothing can be taken in the negative';
  end if;
  begin
    for place in 1 .. coalesce(pg_catalog.array_length(p_resources, 1), 0) loop
      update memcube.quota_slots set used = used + p_amounts[place]
       where project_id = project and resource = p_resources[place] and slot = own
         and day = case p_resources[place] when 'insights_per_day' then today else date '1970-01-01' end
         and used + p_amounts[place] <= share and p_amounts[place] >= 0;
      if not found then
        raise sqlstate 'MCQ00';
      end if;
    end loop;
    return null;
  exception when sqlstate 'MCQ00' then
    null;
  end;
  for place in 1 .. pg_catalog.array_length(p_resources, 1) loop
    if not memcube.take_quota(p_resources[place], p_amounts[place]) then
      return p_resources[place];
    end if;
  end loop;
  return null;
end $$;

-- Take `p_amount` of one resource; false where there is not so much left, and then nothing was taken. A negative
-- amount gives back.
create function memcube.take_quota(p_resource text, p_amount bigint) returns boolean
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  own int := pg_catalog.pg_backend_pid() % 16;
begin
  if p_amount > 0 then
    begin
      update memcube.quota_slots set used = used + p_amount
       where project_id = project and resource = p_resource and slot = own
         and day = memcube.quota_day(p_resource) and used + p_amount <= share;
      if found then
        return true;
      end if;
      raise sqlstate 'MCQ00';
    exception when sqlstate 'MCQ00' then
      null;
    end;
    return memcube.settle_quota(p_resource, p_amount, false);
  end if;
  if p_amount = 0 or not exists (select from memcube.quotas q where q.project_id = project and q.resource = p_resource) then
    return true;   -- not opened yet: it will count then what is still there
  end if;
  if exists (select from memcube.quotas q where q.project_id = project and q.resource = p_resource
                                           and (q.warned_at is not null or q.exhausted_at is not null)) then
    return memcube.settle_quota(p_resource, p_amount, false);
  end if;
  -- To any slot that nobody holds: who gives back in another order than takers take does not deadlock with them.
  update memcube.quota_slots s set used = s.used + p_amount
   where s.project_id = project and s.resource = p_resource
     and s.slot = (select f.slot from memcube.quota_slots f
                    where f.project_id = project and f.resource = p_resource limit 1 for update skip locked);
  if not found then
    update memcube.quota_slots set used = used + p_amount
     where project_id = project and resource = p_resource and slot = own;
  end if;
  return true;
end $$;

-- Announce that something was refused: in a transaction of its own, since the refused one is undone; once in a period.
create function memcube.exhaust_quota(p_resource text) returns void
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
begin
  if not exists (select from memcube.quotas q
                  where q.project_id = pg_catalog.current_setting('app.project_id') and q.resource = p_resource
                    and q.day >= memcube.quota_day(p_resource) and q.exhausted_at is not null) then
    perform memcube.settle_quota(p_resource, 0, true);
  end if;
end $$;

-- The operator gives a project another maximum; null is unlimited.
create function memcube.set_quota(p_resource text, p_max bigint) returns void
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  perform memcube.open_quota(p_resource);
  update memcube.quotas set max = p_max, warned_at = null, exhausted_at = null
   where project_id = project and resource = p_resource;
  perform memcube.settle_quota(p_resource, 0, false);
end $$;

-- Every resource of the transaction's project: how much is used, how much may be.
create function memcube.read_quotas()
returns table (resource text, used bigint, max bigint, warned_at timestamptz, exhausted_at timestamptz)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return query
  select r.name, coalesce(s.total, 0), case when q.resource is null then memcube.quota_default(r.name) else q.max end,
         case when q.day >= memcube.quota_day(r.name) then q.warned_at end,
         case when q.day >= memcube.quota_day(r.name) then q.exhausted_at end
    from pg_catalog.unnest(array['memories', 'bytes', 'insights_per_day', 'packs']) with ordinality as r (name, place)
    left join memcube.quotas q on q.project_id = project and q.resource = r.name
    left join lateral (select sum(x.used)::bigint as total from memcube.quota_slots x
                        where x.project_id = project and x.resource = r.name and x.day >= memcube.quota_day(r.name)) s on true
   order by r.place;
end $$;

-- What is deleted is given back, whoever deletes it and however; the project is the rows' own.
create function memcube.on_memories_gone() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  acting text := pg_catalog.current_setting('app.project_id', true);
  gone record;
begin
  for gone in
    select project_id, count(*) as many from before_rows group by project_id order by project_id
  loop
    perform pg_catalog.set_config('app.project_id', gone.project_id, true);
    perform memcube.take_quota('memories', -gone.many);
  end loop;
  perform pg_catalog.set_config('app.project_id', coalesce(acting, ''), true);
  return null;
end $$;

create function memcube.on_payloads_gone() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  acting text := pg_catalog.current_setting('app.project_id', true);
  gone record;
begin
  for gone in
    select project_id, sum(size_bytes)::bigint as many from before_rows group by project_id order by project_id
  loop
    perform pg_catalog.set_config('app.project_id', gone.project_id, true);
    perform memcube.take_quota('bytes', -gone.many);
  end loop;
  perform pg_catalog.set_config('app.project_id', coalesce(acting, ''), true);
  return null;
end $$;

create trigger memories_gone after delete on memcube.memories
  referencing old table as before_rows for each statement execute function memcube.on_memories_gone();
create trigger payloads_gone after delete on memcube.memory_payloads
  referencing old table as before_rows for each statement execute function memcube.on_payloads_gone();

-- ── who may do what ────────────────────────────────────────────────────────────────────────────────

grant usage on schema memcube to memcube_quota;
revoke execute on function
  memcube.quota_default(text), memcube.quota_day(text), memcube.announce_quota(text, text, bigint, bigint),
  memcube.open_quota(text), memcube.settle_quota(text, bigint, boolean), memcube.take_quota(text, bigint),
  memcube.take_quotas(text[], bigint[]), memcube.exhaust_quota(text), memcube.set_quota(text, bigint),
  memcube.read_quotas(), memcube.on_memories_gone(), memcube.on_payloads_gone() from public;
grant execute on function memcube.quota_default(text), memcube.quota_day(text),
  memcube.announce_quota(text, text, bigint, bigint) to memcube_quota;
grant execute on function memcube.take_quotas(text[], bigint[]), memcube.exhaust_quota(text)
  to memcube_user, memcube_worker;
grant execute on function memcube.read_quotas() to memcube_user, memcube_worker, memcube_operator;
grant execute on function memcube.set_quota(text, bigint) to memcube_operator;

grant create on schema memcube to memcube_quota, memcube_feed;
alter function memcube.announce_quota(text, text, bigint, bigint) owner to memcube_feed;
alter function memcube.open_quota(text) owner to memcube_quota;
alter function memcube.settle_quota(text, bigint, boolean) owner to memcube_quota;
alter function memcube.take_quota(text, bigint) owner to memcube_quota;
alter function memcube.take_quotas(text[], bigint[]) owner to memcube_quota;
alter function memcube.exhaust_quota(text) owner to memcube_quota;
alter function memcube.set_quota(text, bigint) owner to memcube_quota;
alter function memcube.read_quotas() owner to memcube_quota;
alter function memcube.on_memories_gone() owner to memcube_quota;
alter function memcube.on_payloads_gone() owner to memcube_quota;
revoke create on schema memcube from memcube_quota, memcube_feed;

grant select, insert, update on memcube.quotas, memcube.quota_slots to memcube_quota;
grant select (project_id, xmin) on memcube.memories to memcube_quota;
grant select (project_id, size_bytes, xmin) on memcube.memory_payloads to memcube_quota;

do $$
declare t text;
begin
  foreach t in array array['quotas', 'quota_slots'] loop   -- nobody deletes: rows go with their project
    execute format('alter table memcube.%I enable row level security', t);
    execute format('alter table memcube.%I force row level security', t);
    execute format($p$create policy count_read on memcube.%I for select to memcube_quota
                      using (project_id = current_setting('app.project_id', true))$p$, t);
    execute format($p$create policy count_open on memcube.%I for insert to memcube_quota
                      with check (project_id = current_setting('app.project_id', true))$p$, t);
    execute format($p$create policy count_take on memcube.%I for update to memcube_quota
                      using (project_id = current_setting('app.project_id', true))
                      with check (project_id = current_setting('app.project_id', true))$p$, t);
  end loop;
end $$;
create policy count_held on memcube.memories for select to memcube_quota
  using (project_id = current_setting('app.project_id', true));
create policy count_held on memcube.memory_payloads for select to memcube_quota
  using (project_id = current_setting('app.project_id', true));

-- ── what is there already ──────────────────────────────────────────────────────────────────────────

-- Counted once, here, so that no first writer of a large project waits for it.
do $$
declare p text; projects text[];
begin
  alter table memcube.projects no force row level security;
  select coalesce(array_agg(id), '{}') into projects from memcube.projects;
  alter table memcube.projects force row level security;
  set local role memcube_quota;
  foreach p in array projects loop
    perform set_config('app.project_id', p, true);
    perform memcube.settle_quota('memories', 0, false), memcube.settle_quota('bytes', 0, false);
  end loop;
  reset role;
  perform set_config('app.project_id', '', true);
end $$;


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
