-- migrate:up

-- Which generation of vectors is in force, for the whole house: questions are embedded by its model and compared with
-- its vectors alone. Without a first model there is none.
alter table memcube.embedding_models
  add column current boolean not null default false,
  add column used_at timestamptz;
create unique index embedding_models_current on memcube.embedding_models (current) where current;
comment on column memcube.embedding_models.used_at is 'When the first vector of it was kept.';

-- The generation that most memories have is in force; forced policies would hide every row from the owner meanwhile.
alter table memcube.memory_vectors no force row level security;
alter table memcube.embedding_models no force row level security;
update memcube.embedding_models m
   set used_at = m.created_at, current = v.place = 1
  from (select x.generation, row_number() over (order by count(*) desc, x.generation desc) as place
          from memcube.memory_vectors x group by x.generation) v
 where v.generation = m.generation;
update memcube.embedding_models m set current = true
 where m.generation = (select max(x.generation) from memcube.embedding_models x)
   and not exists (select from memcube.embedding_models x where x.current);
alter table memcube.memory_vectors force row level security;
alter table memcube.embedding_models force row level security;

-- The way from one model to another: backfilling → ready → cut_over → finished; from cut_over back to rolled_back,
-- and from there over again. Until it has ended, every memory that gets a vector gets one of both generations.
create table memcube.embedding_migrations (
  id              int generated always as identity primary key,
  target          text not null check (target ~ '^(local|openai:[!-~]{1,200})$'),
  state           text not null default 'backfilling'
                  check (state in ('backfilling', 'ready', 'cut_over', 'rolled_back', 'finished', 'cancelled')),
  from_generation smallint not null references memcube.embedding_models (generation),
  to_generation   smallint references memcube.embedding_models (generation),
  problem         text,
  started_at      timestamptz not null default now(),
  fed_at          timestamptz,
  ready_at        timestamptz,
  switched_at     timestamptz,
  ended_at        timestamptz,
  swept_at        timestamptz
);
create unique index embedding_migrations_open on memcube.embedding_migrations ((true))
  where state not in ('finished', 'cancelled');
comment on column memcube.embedding_migrations.to_generation is 'Null until the embedding room has opened the target.';
comment on column memcube.embedding_migrations.fed_at is 'When the last memory that was there was handed over.';

-- How far it is in each project, and what the comparison of both models found there: numbers, no texts.
create table memcube.embedding_backfills (
  project_id text not null,
  migration  int not null,
  todo       int not null default 0,
  fed        int not null default 0,
  made       int not null default 0,
  refused    int not null default 0,
  refusals   jsonb not null default '{}',
  samples    jsonb,
  primary key (project_id, migration)
);
comment on column memcube.embedding_backfills.refusals is 'Why the target gives no vector: how often, and first ids.';

alter table memcube.work_queue drop constraint work_queue_kind_check;
alter table memcube.work_queue add constraint work_queue_kind_check
  check (kind in ('insight', 'embedding', 'duplicate', 'conversation', 'backfill', 'vector', 'compare', 'sweep'));
alter table memcube.work_queue add column queued_at timestamptz not null default now();

-- While a migration is open, a memory that has got its vector, or never will, gets one of the other generation too.
create function memcube.on_memory_embedded() returns trigger
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan as $$
begin
  if exists (select from memcube.embedding_migrations m where m.state not in ('finished', 'cancelled')) then
    insert into memcube.work_queue (kind, project_id, item_id) values ('vector', new.project_id, new.id)
    on conflict do nothing;
  end if;
  return null;
end $$;
create trigger f_other_vector after update of embedding_state on memcube.memories
  for each row when (new.embedding_state <> 'pending' and old.embedding_state = 'pending')
  execute function memcube.on_memory_embedded();

-- Begin a migration; why not, else null.
create function memcube.start_embedding_migration(p_target text) returns text
language plpgsql set search_path = '' as $$
declare
  now_used smallint := (select g.generation from memcube.embedding_models g where g.current);
begin
  if now_used is null then
    return 'no model is in use yet: say in the settings of the embedding room which one is to be';
  end if;
  if not exists (select from memcube.embedding_migrations x where x.state not in ('finished', 'cancelled'))
     and exists (select from memcube.work_queue q where q.kind in ('backfill', 'vector', 'compare', 'sweep')) then
    return 'what the last migration left behind is still being removed';
  end if;
  insert into memcube.embedding_migrations (target, from_generation) values (p_target, now_used) on conflict do nothing;
  if not found then
    return 'another migration is under way';
  end if;
  insert into memcube.work_queue (kind, project_id, item_id)
  select 'backfill', p.id, '00000000-0000-0000-0000-000000000000' from memcube.projects p
  on conflict do nothing;
  return null;
end $$;

-- Take the migration a step on: 'look' notes what came to its end by itself, the others are the operator's. Why not,
-- else null. The pointer is moved in one transaction: who looks it up finds the one generation or the other.
create function memcube.steer_embedding_migration(p_step text) returns text
language plpgsql set search_path = '' as $$
declare
  m record;
  late bigint;
  settled constant interval := '20 seconds';   -- longer than a question takes from its vector to its answer
begin
  update memcube.embedding_migrations x set swept_at = pg_catalog.clock_timestamp()
   where x.state in ('finished', 'cancelled') and x.swept_at is null
     and not exists (select from memcube.work_queue q where q.kind in ('backfill', 'vector', 'compare', 'sweep'));
  select * into m from memcube.embedding_migrations x where x.state not in ('finished', 'cancelled') for update;
  if not found then
    return case when p_step <> 'look' then 'no migration is under way' end;
  end if;
  if m.state = 'backfilling' and m.to_generation is not null then
    if m.fed_at is null and not exists (select from memcube.work_queue q where q.kind = 'backfill') then
      m.fed_at := pg_catalog.clock_timestamp();
      update memcube.embedding_migrations x set fed_at = m.fed_at where x.id = m.id;
    end if;
    if m.fed_at is not null
       and not exists (select from memcube.work_queue q where q.kind = 'vector' and q.queued_at <= m.fed_at) then
      m.state := 'ready';
      update memcube.embedding_migrations x set state = 'ready', ready_at = pg_catalog.clock_timestamp() where x.id = m.id;
      insert into memcube.work_queue (kind, project_id, item_id)
      select 'compare', b.project_id, '00000000-0000-0000-0000-000000000000'
        from (select y.project_id from memcube.embedding_backfills y
               where y.migration = m.id and y.todo > 1 order by pg_catalog.random() limit 10) b
      on conflict do nothing;
    end if;
  end if;
  case p_step
    when 'look' then
      return null;
    when 'cut-over' then
      if m.state = 'backfilling' then
        return 'the back-fill is not through yet';
      elsif m.state = 'cut_over' then
        return 'searches use the new model already';
      end if;
      select count(*) into late from memcube.work_queue q
       where q.kind = 'vector' and q.queued_at < pg_catalog.clock_timestamp() - settled;
      if late > 0 then
        return pg_catalog.format('%s memories wait for their vector of the new model for more than 20 s', late);
      end if;
      update memcube.embedding_models g set current = false where g.current;
      update memcube.embedding_models g set current = true where g.generation = m.to_generation;
      update memcube.embedding_migrations x
         set state = 'cut_over', switched_at = pg_catalog.clock_timestamp() where x.id = m.id;
    when 'roll-back' then
      if m.state <> 'cut_over' then
        return 'searches do not use the new model';
      end if;
      update memcube.embedding_models g set current = false where g.current;
      update memcube.embedding_models g set current = true where g.generation = m.from_generation;
      update memcube.embedding_migrations x
         set state = 'rolled_back', switched_at = pg_catalog.clock_timestamp() where x.id = m.id;
    when 'finish', 'cancel' then
      if p_step = 'finish' and m.state <> 'cut_over' then
        return 'searches do not use the new model: cut over first';
      elsif p_step = 'cancel' and m.state = 'cut_over' then
        return 'searches use the new model: roll back first';
      elsif m.switched_at > pg_catalog.clock_timestamp() - settled then
        return 'searches that began before the models were changed may still read: wait 20 s';
      end if;
      update memcube.embedding_migrations x
         set state = case p_step when 'finish' then 'finished' else 'cancelled' end,
             ended_at = pg_catalog.clock_timestamp()
       where x.id = m.id;
      insert into memcube.work_queue (kind, project_id, item_id)
      select 'sweep', p.id, '00000000-0000-0000-0000-000000000000' from memcube.projects p
      on conflict do nothing;
  end case;
  return null;
end $$;

revoke execute on function memcube.on_memory_embedded(), memcube.start_embedding_migration(text),
  memcube.steer_embedding_migration(text) from public;
grant execute on function memcube.start_embedding_migration(text), memcube.steer_embedding_migration(text)
  to memcube_operator;

grant insert (current), update (current, used_at) on memcube.embedding_models to memcube_worker;
grant select, update (current) on memcube.embedding_models to memcube_operator;
grant select, update (to_generation, problem, state, ended_at) on memcube.embedding_migrations to memcube_worker;
grant select, insert (target, from_generation), update (state, fed_at, ready_at, switched_at, ended_at, swept_at)
  on memcube.embedding_migrations to memcube_operator;
grant select, insert, update on memcube.embedding_backfills to memcube_worker;
grant select on memcube.embedding_backfills to memcube_operator;

alter table memcube.embedding_migrations enable row level security;
alter table memcube.embedding_migrations force row level security;
alter table memcube.embedding_backfills enable row level security;
alter table memcube.embedding_backfills force row level security;

create policy worker_update on memcube.embedding_models for update to memcube_worker
  using (current_setting('app.principal', true) = 'room:embedding')
  with check (current_setting('app.principal', true) = 'room:embedding');
create policy operator_select on memcube.embedding_models for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_update on memcube.embedding_models for update to memcube_operator
  using (current_setting('app.principal', true) = 'operator')
  with check (current_setting('app.principal', true) = 'operator');
create policy worker_select on memcube.embedding_migrations for select to memcube_worker
  using (current_setting('app.principal', true) like 'room:%');
create policy worker_update on memcube.embedding_migrations for update to memcube_worker
  using (current_setting('app.principal', true) = 'room:embedding')
  with check (current_setting('app.principal', true) = 'room:embedding');
create policy operator_select on memcube.embedding_migrations for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_insert on memcube.embedding_migrations for insert to memcube_operator
  with check (current_setting('app.principal', true) = 'operator');
create policy operator_update on memcube.embedding_migrations for update to memcube_operator
  using (current_setting('app.principal', true) = 'operator')
  with check (current_setting('app.principal', true) = 'operator');
create policy worker_select on memcube.embedding_backfills for select to memcube_worker
  using (project_id = current_setting('app.project_id', true));
create policy worker_insert on memcube.embedding_backfills for insert to memcube_worker
  with check (project_id = current_setting('app.project_id', true));
create policy worker_update on memcube.embedding_backfills for update to memcube_worker
  using (project_id = current_setting('app.project_id', true))
  with check (project_id = current_setting('app.project_id', true));
create policy operator_select on memcube.embedding_backfills for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
