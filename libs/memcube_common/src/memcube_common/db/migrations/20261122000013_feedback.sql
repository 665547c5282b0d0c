-- migrate:up

-- What came of schedules: what was told to whom, what was used, what helped and what harmed; counted in batches, and
-- what follows from it for scores and recommendations (docs/adr/0024).
alter table memcube.memories add column feedback real not null default 0;
alter table memcube.memories add constraint memories_feedback_bounded check (feedback between -1 and 1) not valid;
comment on column memcube.memories.feedback is 'What agents said came of it, -1 … 1; moved in batches, without a version.';

alter table memcube.schedules
  add column for_others  boolean not null default false,
  add column recalled_at timestamptz;
alter table memcube.schedules
  alter column for_others set default coalesce(current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[]), false);
comment on column memcube.schedules.for_others is 'Who asked may speak for any agent: what was told counts as told to the one named.';
comment on column memcube.schedules.recalled_at is 'When it was noted what its agent had been told, for the echo guard.';
create index schedules_unrecalled on memcube.schedules (made_at, project_id) where recalled_at is null;

-- ── tables ─────────────────────────────────────────────────────────────────────────────────────────

-- The last word on each memory of a schedule. `counted` is the word that the tallies hold: the difference waits.
create table memcube.schedule_outcomes (
  project_id  text not null,
  schedule_id uuid not null,
  memory_id   uuid not null,
  made_by     text not null,
  agent_id    text not null,
  outcome     text not null check (outcome in ('used', 'ignored', 'helpful', 'harmful')),
  said_by     text not null,
  said_at     timestamptz not null default now(),
  counted     text,
  primary key (project_id, schedule_id, memory_id),
  foreign key (project_id, schedule_id) references memcube.schedules (project_id, id) on delete cascade
);
create index schedule_outcomes_waiting on memcube.schedule_outcomes (said_at, project_id)
  where counted is distinct from outcome;
create index schedule_outcomes_memory on memcube.schedule_outcomes (memory_id, project_id);
comment on column memcube.schedule_outcomes.made_by is 'Who asked for the schedule: whose voice it counts as, whoever says it.';

-- How often a memory was given to an agent, and what came of it. An agent is a name under the principal that asked.
create table memcube.memory_uses (
  project_id text not null,
  memory_id  uuid not null,
  made_by    text not null,
  agent_id   text not null,
  scheduled  bigint not null default 0,
  used       int not null default 0,
  ignored    int not null default 0,
  helpful    int not null default 0,
  harmful    int not null default 0,
  last_at    timestamptz not null,
  primary key (project_id, memory_id, made_by, agent_id)
) with (fillfactor = 85);

-- What an agent might need, replaced whole whenever it is computed.
create table memcube.recommendations (
  project_id text not null,
  agent_id   text not null,
  made_by    text not null,
  memory_id  uuid not null,
  score      real not null check (score between 0 and 1),
  because    text[] not null,
  primary key (project_id, agent_id, made_by, memory_id)
);
create index recommendations_memory on memcube.recommendations (memory_id, project_id);

-- How often a project was settled, and how much of that the recommendations know. Goes with its project.
create table memcube.usage_marks (
  project_id  text primary key references memcube.projects (id) on delete cascade,
  settled     bigint not null default 0,
  considered  bigint not null default 0,
  computed_at timestamptz
) with (fillfactor = 50);

-- ── nothing has changed since ──────────────────────────────────────────────────────────────────────

-- The outbox is asked by project: what has come since a number. It is written in the order of its numbers.
create index changes_of_project on memcube.changes (project_id, seq);

-- Where the project stands before something is read: all changes up to `horizon` are committed and seen by the next
-- statement, `seen` are already there beyond it, and what is still on its way will be beyond it too (the relay's rule:
-- the last number drawn first, then the marks of writers, then rows). Each statement must see what is committed when it
-- begins. No horizon where too much is there beyond it: another writer has been at it for long.
create function memcube.take_mark(
  out horizon bigint, out since date, out seen bigint, out settled bigint, out counted bigint)
language plpgsql security definer set search_path = '' as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a mark is taken where each statement sees what is committed when it begins';
  end if;
  select s.last_value into horizon from memcube.changes_seq s;
  select least(horizon, min(((l.classid::bigint << 32) | l.objid::bigint) & ((1::bigint << 48) - 1))) into horizon
    from pg_catalog.pg_locks l
   where l.locktype = 'advisory' and l.objsubid = 1 and (l.classid::bigint >> 16) = 4711
     and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database());
  since := (pg_catalog.now() at time zone 'utc')::date - 1;  -- a change is of the day its transaction began
  select count(*) into seen
    from (select from memcube.changes c
           where c.project_id = project and c.seq > horizon and c.day between since and since + 2 limit 1000) c;
  if seen = 1000 then
    horizon := null;
  end if;
  select m.settled into settled from memcube.usage_marks m where m.project_id = project;
  settled := coalesce(settled, 0);
  -- By which transaction the statistics of words (migration 16) were counted last: they are counted after the change.
  select t.xmin::text::bigint into counted from memcube.text_stats t where t.project_id = project;
  counted := coalesce(counted, 0);
end $$;

-- Whether the project is as it was at a mark: no change that was not there, nothing settled, no words counted, the moment
-- not passed.
create function memcube.mark_holds(
  p_horizon bigint, p_since date, p_seen bigint, p_settled bigint, p_counted bigint, p_until timestamptz)
returns boolean language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  last_day date := (pg_catalog.clock_timestamp() at time zone 'utc')::date + 1;
begin
  return (p_until is null or p_until > pg_catalog.clock_timestamp())
     and p_settled = coalesce((select m.settled from memcube.usage_marks m where m.project_id = project), 0)
     and p_counted = coalesce((select t.xmin::text::bigint from memcube.text_stats t where t.project_id = project), 0)
     and p_seen = (select count(*)
                     from (select from memcube.changes c
                            where c.project_id = project and c.seq > p_horizon and c.day between p_since and last_day
                            limit p_seen + 1) c);
end $$;

-- ── what came of it ────────────────────────────────────────────────────────────────────────────────

-- Say what came of memories that were chosen in a schedule of the caller's, the last word on each; of those that were
-- not, and of those the caller may not read (any more), nothing is kept. Returns how many are known of the schedule; null
-- where the caller has no such schedule.
create function memcube.say_outcomes(p_schedule uuid, p_memories uuid[], p_outcomes text[]) returns bigint
language plpgsql security definer set search_path = '' as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  principal text := pg_catalog.current_setting('app.principal');
  asked record;
begin
  if pg_catalog.current_setting('app.role', true) not in ('OWNER', 'ADMIN', 'SERVICE', 'MEMBER', 'AGENT') then
    return null;
  end if;
  select s.made_by, s.agent_id, s.chosen into asked
    from memcube.schedules s where s.project_id = project and s.id = p_schedule;
  if not found then
    return null;
  end if;
  insert into memcube.schedule_outcomes as o (project_id, schedule_id, memory_id, made_by, agent_id, outcome, said_by)
  select project, p_schedule, m.id, asked.made_by, asked.agent_id, g.outcome, principal
    from (select u.memory, u.outcome from unnest(p_memories, p_outcomes) as u (memory, outcome)
           where u.memory = any (asked.chosen) order by u.memory offset 0) g
   cross join lateral (select x.id from memcube.memories x where x.project_id = project and x.id = g.memory limit 1) m
  on conflict (project_id, schedule_id, memory_id) do update
     set outcome = excluded.outcome, said_by = excluded.said_by, said_at = pg_catalog.now()
   where o.outcome <> excluded.outcome;
  return (select count(*) from memcube.schedule_outcomes o where o.project_id = project and o.schedule_id = p_schedule);
end $$;

-- ── work across projects: names only ───────────────────────────────────────────────────────────────

-- Projects with schedules of which it is not noted yet what their agents were told, among the oldest of these.
create function memcube.projects_to_recall(p_limit int) returns table (project_id text)
language plpgsql security definer rows 10 set search_path = '' as $$
begin
  return query
  select distinct s.project_id
    from (select x.project_id from memcube.schedules x where x.recalled_at is null order by x.made_at limit p_limit) s;
end $$;

-- Projects with schedules older than p_usage, or outcomes older than p_feedback, that are not counted yet, among the
-- oldest of these.
create function memcube.projects_to_settle(p_usage interval, p_feedback interval, p_limit int)
returns table (project_id text)
language plpgsql security definer rows 10 set search_path = '' as $$
begin
  return query
  select s.project_id
    from (select x.project_id from memcube.schedules x
           where x.settled_at is null and x.made_at <= pg_catalog.clock_timestamp() - p_usage
           order by x.made_at limit p_limit) s
  union
  select o.project_id
    from (select x.project_id from memcube.schedule_outcomes x
           where x.counted is distinct from x.outcome and x.said_at <= pg_catalog.clock_timestamp() - p_feedback
           order by x.said_at limit p_limit) o;
end $$;

-- Projects that were settled since their recommendations were computed, if that is longer ago than p_every.
create function memcube.projects_to_recommend(p_every interval, p_limit int) returns table (project_id text)
language plpgsql security definer rows 10 set search_path = '' as $$
begin
  return query
  select m.project_id from memcube.usage_marks m
   where m.settled > m.considered
     and (m.computed_at is null or m.computed_at <= pg_catalog.clock_timestamp() - p_every)
   order by m.computed_at nulls first limit p_limit;
end $$;

-- With a memory goes what is known of its use.
create function memcube.on_use_forgotten() returns trigger
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
    delete from memcube.schedule_outcomes o where o.memory_id = any (gone) and o.project_id = project;
    delete from memcube.memory_uses u where u.project_id = project and u.memory_id = any (gone);
    delete from memcube.recommendations r where r.memory_id = any (gone) and r.project_id = project;
  end loop;
  perform pg_catalog.set_config('app.project_id', project_before, true);
  return null;
end $$;
create trigger b_use_forgotten after delete on memcube.memories
  referencing old table as before_rows for each statement execute function memcube.on_use_forgotten();

-- ── owners, grants, policies ───────────────────────────────────────────────────────────────────────

revoke execute on function
  memcube.take_mark(), memcube.mark_holds(bigint, date, bigint, bigint, bigint, timestamptz),
  memcube.say_outcomes(uuid, uuid[], text[]), memcube.projects_to_recall(int),
  memcube.projects_to_settle(interval, interval, int), memcube.projects_to_recommend(interval, int),
  memcube.on_use_forgotten() from public;
grant execute on function
  memcube.take_mark(), memcube.mark_holds(bigint, date, bigint, bigint, bigint, timestamptz),
  memcube.say_outcomes(uuid, uuid[], text[]) to memcube_user;
grant execute on function
  memcube.projects_to_recall(int), memcube.projects_to_settle(interval, interval, int),
  memcube.projects_to_recommend(interval, int) to memcube_worker;

grant create on schema memcube to memcube_search, memcube_dispatch, memcube_governor;
alter function memcube.take_mark() owner to memcube_search;
alter function memcube.mark_holds(bigint, date, bigint, bigint, bigint, timestamptz) owner to memcube_search;
alter function memcube.say_outcomes(uuid, uuid[], text[]) owner to memcube_search;
alter function memcube.projects_to_recall(int) owner to memcube_dispatch;
alter function memcube.projects_to_settle(interval, interval, int) owner to memcube_dispatch;
alter function memcube.projects_to_recommend(interval, int) owner to memcube_dispatch;
alter function memcube.on_use_forgotten() owner to memcube_governor;
revoke create on schema memcube from memcube_search, memcube_dispatch, memcube_governor;

grant update (feedback) on memcube.memories to memcube_worker;
grant update (recalled_at) on memcube.schedules to memcube_worker;
grant select (recalled_at, settled_at) on memcube.schedules to memcube_dispatch;
grant select (project_id, id, made_by, agent_id, chosen) on memcube.schedules to memcube_search;
grant select on sequence memcube.changes_seq to memcube_search;
grant select (project_id, seq, day) on memcube.changes to memcube_search;
grant select (project_id, settled) on memcube.usage_marks to memcube_search;
grant select (project_id, computed_at) on memcube.usage_marks to memcube_user;
grant select, insert, update on memcube.usage_marks to memcube_worker;
grant select (project_id, settled, considered, computed_at) on memcube.usage_marks to memcube_dispatch;
grant select, insert, update (outcome, said_by, said_at) on memcube.schedule_outcomes to memcube_search;
grant select, update (counted) on memcube.schedule_outcomes to memcube_worker;
grant select (project_id, outcome, counted, said_at) on memcube.schedule_outcomes to memcube_dispatch;
grant select (project_id, memory_id), delete on memcube.schedule_outcomes, memcube.memory_uses,
  memcube.recommendations to memcube_governor;
grant select, insert, update on memcube.memory_uses to memcube_worker;
grant select on memcube.recommendations to memcube_user;
grant select, insert, delete on memcube.recommendations to memcube_worker;

do $$
declare
  t text;
  grant_of text[];
  command text;
  own constant text := 'project_id = current_setting(''app.project_id'', true)';
begin
  foreach t in array array['schedule_outcomes', 'memory_uses', 'recommendations', 'usage_marks'] loop
    execute format('alter table memcube.%I enable row level security', t);
    execute format('alter table memcube.%I force row level security', t);
  end loop;
  foreach grant_of slice 1 in array array[
    ['changes', 'memcube_search', 'select'],
    ['usage_marks', 'memcube_search', 'select'],
    ['usage_marks', 'memcube_user', 'select'],
    ['usage_marks', 'memcube_worker', 'select insert update'],
    ['schedule_outcomes', 'memcube_search', 'select'],
    ['schedule_outcomes', 'memcube_worker', 'select update'],
    ['schedule_outcomes', 'memcube_governor', 'select delete'],
    ['memory_uses', 'memcube_worker', 'select insert update'],
    ['memory_uses', 'memcube_governor', 'select delete'],
    ['recommendations', 'memcube_worker', 'select insert delete'],
    ['recommendations', 'memcube_governor', 'select delete']
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

create policy search_select on memcube.schedules for select to memcube_search
  using (project_id = current_setting('app.project_id', true)
         and (current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
              or made_by = current_setting('app.principal', true)));

-- What came of a schedule is said by those who may bring something in, under their own name.
create policy search_insert on memcube.schedule_outcomes for insert to memcube_search
  with check (project_id = current_setting('app.project_id', true) and said_by = current_setting('app.principal', true)
              and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]));
create policy search_update on memcube.schedule_outcomes for update to memcube_search
  using (project_id = current_setting('app.project_id', true)
         and current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE,MEMBER,AGENT}'::text[]))
  with check (project_id = current_setting('app.project_id', true) and said_by = current_setting('app.principal', true));

-- Recommendations are read by who asked for the schedules they follow from, and by the privileged.
create policy reader_select on memcube.recommendations for select to memcube_user
  using (project_id = current_setting('app.project_id', true)
         and (current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
              or made_by = current_setting('app.principal', true)));

-- What waits, in whichever project, is handed out to the room that counts.
create policy dispatch_waiting on memcube.schedules for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:scheduling' and (recalled_at is null or settled_at is null));
create policy dispatch_select on memcube.schedule_outcomes for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:scheduling' and counted is distinct from outcome);
create policy dispatch_select on memcube.usage_marks for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:scheduling');

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
