-- migrate:up

-- What a project decides about what is written into it. Changed by its OWNERs and ADMINs, each by an account (a key that
-- leaked must not turn screening off), and by the operator; what was changed, and by whom, stands in project_events.

alter table memcube.projects
  add column screening text not null default 'off'
    constraint projects_screening_check check (screening in ('off', 'tag', 'redact')),
  add column near_duplicates double precision
    constraint projects_near_duplicates_check check (near_duplicates between 0.8 and 1);
comment on column memcube.projects.screening is
  'What becomes of personal data and secrets in new text: kept as it is, marked, or replaced before it is stored.';
comment on column memcube.projects.near_duplicates is
  'Cosine similarity from which a new insight supports the memory there is instead of making another; null is off.';

-- Written by the owner of this function, so that whoever changes a setting cannot leave out the event.
create function memcube.on_project_set() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  acting text := coalesce(nullif(pg_catalog.current_setting('app.principal', true), ''), session_user);
  details jsonb := '{}';
begin
  if new.screening is distinct from old.screening then
    details := details || pg_catalog.jsonb_build_object(
      'screening', pg_catalog.jsonb_build_object('was', old.screening, 'now', new.screening));
  end if;
  if new.near_duplicates is distinct from old.near_duplicates then
    details := details || pg_catalog.jsonb_build_object(
      'near_duplicates', pg_catalog.jsonb_build_object('was', old.near_duplicates, 'now', new.near_duplicates));
  end if;
  if details <> '{}' then
    insert into memcube.project_events (project_id, kind, actor, source, subject, details)
    values (new.id, 'project.set', acting, coalesce(pg_catalog.current_setting('app.source', true), ''), new.id, details);
  end if;
  return null;
end $$;
create trigger projects_set after update on memcube.projects
  for each row execute function memcube.on_project_set();

-- The house marks what it found in new text, whoever wrote it: marks are for the privileged to take away. Only what this
-- very transaction has written is marked, and kinds are only added, at most 64 of them. What is derived keeps its own
-- marks apart from those it inherits. Returns the memory where it was not marked so before.
create function memcube.mark_personal(p_memory uuid, p_kinds text[]) returns setof uuid
language sql security definer set search_path = '' as $$
  update memcube.memories m
     set governance = case when m.governance_own is null then marked.governance else m.governance end,
         governance_own = case when m.governance_own is null then null else marked.governance end
    from (select x.id, coalesce(x.governance_own, x.governance) || pg_catalog.jsonb_build_object(
                 'pii_tagged', true,
                 'pii_kinds', pg_catalog.to_jsonb((array(
                   select distinct kind from pg_catalog.unnest(
                     memcube.texts(coalesce(x.governance_own, x.governance) -> 'pii_kinds') || p_kinds) kind
                    order by kind))[1:64])) as governance
            from memcube.memories x
           where x.project_id = pg_catalog.current_setting('app.project_id', true) and x.id = p_memory) marked
   where m.project_id = pg_catalog.current_setting('app.project_id', true) and m.id = marked.id
     and m.xmin = pg_catalog.pg_current_xact_id()::xid
     and coalesce(m.governance_own, m.governance) is distinct from marked.governance
  returning m.id
$$;

-- Before it changes hands: afterwards a revoke by memcube_owner would change nothing, quietly.
revoke execute on function memcube.on_project_set(), memcube.mark_personal(uuid, text[]) from public;
grant execute on function memcube.mark_personal(uuid, text[]) to memcube_user;
grant create on schema memcube to memcube_governor;
alter function memcube.on_project_set() owner to memcube_governor;
alter function memcube.mark_personal(uuid, text[]) owner to memcube_governor;
revoke create on schema memcube from memcube_governor;

grant update (screening, near_duplicates) on memcube.projects to memcube_user, memcube_operator;

create policy manager_update on memcube.projects for update to memcube_user
  using (id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and current_setting('app.role', true) in ('OWNER', 'ADMIN'))
  with check (id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and current_setting('app.role', true) in ('OWNER', 'ADMIN'));
create policy operator_update on memcube.projects for update to memcube_operator
  using (current_setting('app.principal', true) = 'operator')
  with check (current_setting('app.principal', true) = 'operator');

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
