-- migrate:up

-- What was scheduled for whom, out of what and why: ids, versions, numbers and digests, and nothing that was written. A
-- schedule is chosen again from its row alone; the texts are those of its memories' versions, as long as these are there.
create table memcube.schedules (
  project_id   text not null,
  id           uuid not null,
  agent_id     text not null,
  task_id      text,
  made_by      text not null,
  made_at      timestamptz not null,
  asked        jsonb not null,
  weights      jsonb not null,
  token_budget int not null check (token_budget >= 1),
  tokens_used  int not null check (tokens_used between 0 and token_budget),
  generation   smallint,
  chosen       uuid[] not null,
  weighed      bytea not null,
  settled_at   timestamptz,
  primary key (project_id, id)
) with (fillfactor = 85);
alter table memcube.schedules alter column weighed set storage external;  -- compressed already
comment on column memcube.schedules.asked is 'The request; of its text and embedding the SHA-256.';
comment on column memcube.schedules.generation is 'Of the vectors that were searched; null where it was done by words, or by neither.';
comment on column memcube.schedules.chosen is 'Memories in their order; insights that were no memories yet are in `weighed` only.';
comment on column memcube.schedules.weighed is 'zstd of JSON: every candidate with its parts, and which say the same (schedules/domain.py).';
comment on column memcube.schedules.settled_at is 'When what it told was counted as used.';

-- Newest first is the order of the primary key (UUIDv7); these are not led by the project, so that no statement that
-- names ids is tempted by them.
create index schedules_maker on memcube.schedules (made_by, project_id, id);
create index schedules_agent on memcube.schedules (agent_id, project_id, id);
create index schedules_task on memcube.schedules (task_id, project_id, id) where task_id is not null;
create index schedules_unsettled on memcube.schedules (made_at, project_id) where settled_at is null;
create index schedules_age on memcube.schedules (made_at);

alter table memcube.schedules enable row level security;
alter table memcube.schedules force row level security;

-- Few memories are pinned; they are found without looking at the others.
create index memories_pinned on memcube.memories (project_id, id)
  where governance @> '{"pin": true}' and lifecycle not in ('ARCHIVED', 'EXPIRED');

-- ── what is weighed ────────────────────────────────────────────────────────────────────────────────

-- Pinned memories the caller may read, newest first.
create function memcube.pinned_memories(p_limit int) returns table (memory_id uuid)
language plpgsql stable security definer rows 20
set search_path = '' set plan_cache_mode = force_custom_plan set enable_seqscan = off as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return query
  select m.id from memcube.memories m
   where m.project_id = project and m.governance @> '{"pin": true}' and m.lifecycle not in ('ARCHIVED', 'EXPIRED')
   order by m.id desc limit p_limit;
end $$;

-- What memories the caller may read cost in tokens; with p_words also the words they are found by, one a line. Neither
-- is a reading of what was written: nothing is marked in the audit trail.
create function memcube.extents(p_ids uuid[], p_words boolean)
returns table (memory_id uuid, token_count int, words text)
language plpgsql stable security definer rows 200 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return query
  select w.id, p.token_count, t.words
    from pg_catalog.unnest(p_ids) w (id)
   cross join lateral (select from memcube.memories x where x.project_id = project and x.id = w.id limit 1) m
   cross join lateral (select x.token_count from memcube.memory_payloads x
                        where x.project_id = project and x.memory_id = w.id limit 1) p
    left join lateral (select pg_catalog.array_to_string(pg_catalog.tsvector_to_array(x.tsv), e'\n') as words
                         from memcube.memory_text x
                        where p_words and x.project_id = project and x.memory_id = w.id limit 1) t on true;
end $$;

-- Forget schedules of more than so many days, in whichever project; how many, at most p_limit.
create function memcube.forget_schedules(p_days int, p_limit int) returns int
language plpgsql security definer set search_path = '' as $$
declare
  forgotten int;
begin
  if p_days < 1 then
    raise invalid_parameter_value using message = 'a schedule is kept for a day at least';
  end if;
  delete from memcube.schedules s
   using (select o.project_id, o.id from memcube.schedules o
           where o.made_at < pg_catalog.now() - p_days * interval '24 hours' order by o.made_at limit p_limit) o
   where s.project_id = o.project_id and s.id = o.id;
  get diagnostics forgotten = row_count;
  return forgotten;
end $$;

revoke execute on function memcube.pinned_memories(int), memcube.extents(uuid[], boolean),
  memcube.forget_schedules(int, int) from public;
grant execute on function memcube.pinned_memories(int), memcube.extents(uuid[], boolean) to memcube_user;
grant execute on function memcube.forget_schedules(int, int) to memcube_worker;
grant create on schema memcube to memcube_search, memcube_dispatch;
alter function memcube.pinned_memories(int) owner to memcube_search;
alter function memcube.extents(uuid[], boolean) owner to memcube_search;
alter function memcube.forget_schedules(int, int) owner to memcube_dispatch;
revoke create on schema memcube from memcube_search, memcube_dispatch;

-- ── grants and policies ────────────────────────────────────────────────────────────────────────────

grant select, insert on memcube.schedules to memcube_user;
grant select, update (settled_at) on memcube.schedules to memcube_worker;
grant select (project_id, id, made_at), delete on memcube.schedules to memcube_dispatch;

-- A schedule is its asker's own, and the privileged's.
create policy asker_select on memcube.schedules for select to memcube_user
  using (project_id = current_setting('app.project_id', true)
         and (current_setting('app.role', true) = any ('{OWNER,ADMIN,SERVICE}'::text[])
              or made_by = current_setting('app.principal', true)));
create policy asker_insert on memcube.schedules for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true)
              and made_by = current_setting('app.principal', true) and settled_at is null);
create policy worker_select on memcube.schedules for select to memcube_worker
  using (project_id = current_setting('app.project_id', true));
create policy worker_update on memcube.schedules for update to memcube_worker
  using (project_id = current_setting('app.project_id', true))
  with check (project_id = current_setting('app.project_id', true));
-- Forgotten by age, of at least a day, in whichever project.
create policy dispatch_select on memcube.schedules for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:scheduling' and made_at < now() - interval '24 hours');
create policy dispatch_delete on memcube.schedules for delete to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:scheduling' and made_at < now() - interval '24 hours');

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
