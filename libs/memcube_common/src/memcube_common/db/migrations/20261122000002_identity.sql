-- migrate:up

-- Who is who: accounts with passwords, their sessions, their memberships of projects, and the keys of projects.
--   memcube_doorkeeper   looks at one credential at a time: the row whose hash or id is app.lookup, and what belongs to
--                        app.account
--   memcube_user         an OWNER or ADMIN with an account manages members and keys of app.project_id
--   memcube_operator     the operator at the terminal, where app.principal says so
--   memcube_governor     owner of the functions that write project_events
grant usage on schema memcube to memcube_doorkeeper, memcube_governor;
grant execute on function memcube.assert_clean() to memcube_doorkeeper;

-- ── accounts and their sessions ────────────────────────────────────────────────────────────────────

create table memcube.accounts (
  id                  uuid primary key,
  email               text not null,
  email_key           text not null unique check (email_key ~ '^[0-9a-f]{64}$'),
  name                text not null check (length(name) between 1 and 200),
  password            text not null check (password like '$argon2id$%'),
  may_create_projects boolean not null default false,
  created_at          timestamptz not null default now(),
  password_changed_at timestamptz not null default now(),
  disabled_at         timestamptz
);
comment on column memcube.accounts.email_key is 'SHA-256, in hexadecimal, of the e-mail in its normal form.';

create table memcube.sessions (
  account_id   uuid not null references memcube.accounts (id) on delete cascade,
  id           uuid not null,
  created_at   timestamptz not null default now(),
  last_used_at timestamptz not null default now(),
  expires_at   timestamptz not null,
  ended_at     timestamptz,
  end_reason   text check (end_reason in ('signed_out', 'password_changed', 'token_reused')),
  primary key (account_id, id),
  check ((ended_at is null) = (end_reason is null))
);
create unique index sessions_id on memcube.sessions (id);
create index sessions_age on memcube.sessions (expires_at);

create table memcube.refresh_tokens (
  account_id uuid not null,
  session_id uuid not null,
  hash       text not null unique check (hash ~ '^[0-9a-f]{64}$'),
  issued_at  timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at    timestamptz,
  child_hash text,
  primary key (account_id, session_id, hash),
  foreign key (account_id, session_id) references memcube.sessions (account_id, id) on delete cascade,
  check ((used_at is null) = (child_hash is null))
);
create index refresh_tokens_age on memcube.refresh_tokens (expires_at);

-- ── members, invitations, keys ─────────────────────────────────────────────────────────────────────

create table memcube.members (
  project_id text not null references memcube.projects (id) on delete cascade,
  account_id uuid not null references memcube.accounts (id),
  handle     text not null check (handle ~ '^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$'),
  role       text not null check (role in ('OWNER', 'ADMIN', 'MEMBER', 'AGENT', 'VIEWER')),
  created_at timestamptz not null default now(),
  created_by text not null,
  primary key (project_id, account_id),
  unique (project_id, handle)
);
create index members_account on memcube.members (account_id, project_id);

create table memcube.invitations (
  project_id text not null references memcube.projects (id) on delete cascade,
  id         uuid not null,
  hash       text not null unique check (hash ~ '^[0-9a-f]{64}$'),
  role       text not null check (role in ('OWNER', 'ADMIN', 'MEMBER', 'AGENT', 'VIEWER')),
  handle     text not null check (handle ~ '^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$'),
  created_by text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at    timestamptz,
  primary key (project_id, id)
);
create unique index invitations_open on memcube.invitations (project_id, handle) where used_at is null;

-- The first keys were secret ones, and what they begin with was not kept.
alter table memcube.api_keys
  add column kind text not null default 'secret' check (kind in ('secret', 'publishable')),
  add column prefix text not null default 'mc_sec_…',
  add column created_by text not null default 'operator',
  add column last_used_at timestamptz,
  add column expires_at timestamptz,
  alter column hash type text using encode(hash, 'hex'),
  drop constraint api_keys_role_check,
  drop constraint api_keys_project_id_hash_key,
  add constraint api_keys_hash_key unique (hash),
  add constraint api_keys_hash_check check (hash ~ '^[0-9a-f]{64}$'),
  add constraint api_keys_role_check
    check (role in ('OWNER', 'ADMIN', 'MEMBER', 'AGENT', 'VIEWER', 'SERVICE', 'PUBLIC')),
  add constraint api_keys_kind_fits_role check ((kind = 'publishable') = (role = 'PUBLIC'));
alter table memcube.api_keys alter column prefix drop default;

-- ── what happened to a project: members, keys, invitations; append-only ────────────────────────────

create table memcube.project_events (
  project_id text not null references memcube.projects (id) on delete cascade,
  id         uuid not null default gen_random_uuid(),
  at         timestamptz not null default clock_timestamp(),
  kind       text not null,
  actor      text not null,
  source     text not null,
  subject    text not null,
  details    jsonb not null default '{}',
  primary key (project_id, id)
);
create index project_events_recent on memcube.project_events (project_id, at desc, id desc);
comment on table memcube.project_events is 'Append-only: nobody but its owner may change or delete a row.';

-- Written by the owner of this function, so that whoever changes members or keys cannot leave out the event.
create function memcube.on_identity_changed() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  acting text := coalesce(nullif(pg_catalog.current_setting('app.principal', true), ''), session_user);
  whence text := coalesce(pg_catalog.current_setting('app.source', true), '');
  kind text;
  project text;
  subject text;
  details jsonb := '{}';
begin
  case tg_table_name
    when 'projects' then
      project := new.id; kind := 'project.created'; subject := new.id;
    when 'members' then
      project := coalesce(new.project_id, old.project_id);
      subject := coalesce(new.handle, old.handle);
      if tg_op = 'INSERT' then
        kind := 'member.joined';
        details := pg_catalog.jsonb_build_object('role', new.role, 'invited_by', new.created_by);
        if acting = 'doorkeeper' then acting := new.handle; end if;
      elsif tg_op = 'UPDATE' then
        kind := 'member.changed'; details := pg_catalog.jsonb_build_object('role', new.role, 'was', old.role);
      else
        kind := 'member.removed'; details := pg_catalog.jsonb_build_object('role', old.role);
      end if;
    when 'invitations' then
      project := coalesce(new.project_id, old.project_id);
      subject := coalesce(new.handle, old.handle);
      if tg_op = 'INSERT' then
        kind := 'invitation.made'; details := pg_catalog.jsonb_build_object('role', new.role);
      elsif old.used_at is null then
        kind := 'invitation.withdrawn'; details := pg_catalog.jsonb_build_object('role', old.role);
      else
        return null;
      end if;
    when 'api_keys' then
      project := new.project_id; subject := new.id::text;
      if tg_op = 'INSERT' then
        kind := 'key.made';
      elsif old.revoked_at is null and new.revoked_at is not null then
        kind := 'key.revoked';
      else
        return null;
      end if;
      details := pg_catalog.jsonb_build_object('name', new.name, 'kind', new.kind, 'role', new.role);
  end case;
  if tg_op = 'DELETE' and not exists (select from memcube.projects p where p.id = project) then
    return null;   -- the project itself goes, and its events with it
  end if;
  insert into memcube.project_events (project_id, kind, actor, source, subject, details)
  values (project, kind, acting, whence, subject, details);
  return null;
end $$;

-- Who may make a project: an account that was told so. What a project begins with is its maker as OWNER.
create function memcube.guard_project() returns trigger
language plpgsql set search_path = '' as $$
begin
  if current_user = 'memcube_doorkeeper' and not exists (
       select from memcube.accounts a
        where a.id::text = pg_catalog.current_setting('app.account', true)
          and a.may_create_projects and a.disabled_at is null) then
    raise insufficient_privilege using message = 'this account may not make projects';
  end if;
  return new;
end $$;

-- The lock under which a project's members are counted and its handles given; held to the end of the transaction.
create function memcube.lock_members(p_project text) returns void
language sql set search_path = '' as $$
  select pg_catalog.pg_advisory_xact_lock(4714, pg_catalog.hashtext(p_project))
$$;

-- An account joins by an invitation, which is used up by it, or as the OWNER of a project made in this transaction.
-- A project keeps an OWNER: counted under a lock, by a statement that sees what the last holder of the lock committed.
create function memcube.guard_member() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    if current_user = 'memcube_doorkeeper' then
      if new.role = 'OWNER' and exists (
           select from memcube.projects p
            where p.id = new.project_id and p.xmin = pg_catalog.pg_current_xact_id()::xid) then
        return new;
      end if;
      update memcube.invitations i set used_at = pg_catalog.now()
       where i.project_id = new.project_id and i.hash = pg_catalog.current_setting('app.lookup', true)
         and i.role = new.role and i.handle = new.handle and i.created_by = new.created_by
         and i.used_at is null and i.expires_at > pg_catalog.now();
      if not found then
        raise insufficient_privilege using message = 'no invitation to join like this';
      end if;
    end if;
    return new;
  end if;
  if old.role = 'OWNER' and (tg_op = 'DELETE' or new.role <> 'OWNER')
     and exists (select from memcube.projects p where p.id = old.project_id) then
    perform memcube.lock_members(old.project_id);
    if not exists (select from memcube.members m
                    where m.project_id = old.project_id and m.role = 'OWNER' and m.handle <> old.handle) then
      raise restrict_violation using message = 'a project keeps at least one owner';
    end if;
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end $$;

-- A handle names one principal: no key under a member's handle, nobody invited under a key's name.
create function memcube.guard_handle() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform memcube.lock_members(new.project_id);
  if tg_table_name = 'api_keys' then
    if exists (select from memcube.members m where m.project_id = new.project_id and m.handle = new.name)
       or exists (select from memcube.invitations i
                   where i.project_id = new.project_id and i.handle = new.name and i.used_at is null) then
      raise unique_violation using message = 'this name is a member''s handle';
    end if;
  elsif exists (select from memcube.members m where m.project_id = new.project_id and m.handle = new.handle)
     or exists (select from memcube.api_keys k
                 where k.project_id = new.project_id and k.name = new.handle and k.revoked_at is null) then
    raise unique_violation using message = 'this handle is taken';
  end if;
  return new;
end $$;

create trigger projects_guarded before insert on memcube.projects
  for each row execute function memcube.guard_project();
create trigger projects_changed after insert on memcube.projects
  for each row execute function memcube.on_identity_changed();
create trigger members_guarded before insert or update or delete on memcube.members
  for each row execute function memcube.guard_member();
create trigger members_changed after insert or update or delete on memcube.members
  for each row execute function memcube.on_identity_changed();
create trigger invitations_guarded before insert on memcube.invitations
  for each row execute function memcube.guard_handle();
create trigger invitations_changed after insert or delete on memcube.invitations
  for each row execute function memcube.on_identity_changed();
create trigger api_keys_guarded before insert on memcube.api_keys
  for each row execute function memcube.guard_handle();
create trigger api_keys_changed after insert or update on memcube.api_keys
  for each row execute function memcube.on_identity_changed();

-- Before it changes hands: afterwards a revoke by memcube_owner would change nothing, quietly.
revoke execute on function
  memcube.on_identity_changed(), memcube.guard_project(), memcube.guard_member(), memcube.guard_handle(),
  memcube.lock_members(text) from public;
grant execute on function memcube.lock_members(text) to
  memcube_user, memcube_doorkeeper, memcube_operator, memcube_owner;
grant create on schema memcube to memcube_governor;
alter function memcube.on_identity_changed() owner to memcube_governor;
revoke create on schema memcube from memcube_governor;

-- ── grants: by column where a row holds what its reader must not see ───────────────────────────────

revoke all on memcube.api_keys from memcube_anon, memcube_operator;
revoke all on memcube.projects from memcube_operator;

grant select on memcube.accounts, memcube.sessions, memcube.refresh_tokens to memcube_doorkeeper;
grant insert (id, email, email_key, name, password) on memcube.accounts to memcube_doorkeeper;
grant update (password, password_changed_at) on memcube.accounts to memcube_doorkeeper;
grant insert (account_id, id, expires_at) on memcube.sessions to memcube_doorkeeper;
grant update (last_used_at, ended_at, end_reason) on memcube.sessions to memcube_doorkeeper;
grant delete on memcube.sessions to memcube_doorkeeper;
grant insert (account_id, session_id, hash, expires_at) on memcube.refresh_tokens to memcube_doorkeeper;
grant update (used_at, child_hash) on memcube.refresh_tokens to memcube_doorkeeper;
grant delete on memcube.refresh_tokens to memcube_doorkeeper;
grant select, insert on memcube.members to memcube_doorkeeper;
grant select, update (used_at) on memcube.invitations to memcube_doorkeeper;
grant select, update (last_used_at) on memcube.api_keys to memcube_doorkeeper;
grant select, insert (id, language) on memcube.projects to memcube_doorkeeper;

grant select (project_id, handle, role, created_at, created_by), update (role), delete on memcube.members to memcube_user;
grant select (project_id, id, role, handle, created_by, created_at, expires_at, used_at), delete,
      insert (project_id, id, hash, role, handle, created_by, expires_at) on memcube.invitations to memcube_user;
grant select (project_id, id, name, role, kind, prefix, created_by, created_at, last_used_at, expires_at, revoked_at),
      insert (project_id, id, name, role, kind, prefix, hash, created_by, expires_at),
      update (revoked_at) on memcube.api_keys to memcube_user;
grant select on memcube.project_events to memcube_user;

grant select, insert (id, email, email_key, name, password, may_create_projects) on memcube.accounts to memcube_operator;
grant select, insert on memcube.members, memcube.projects to memcube_operator;
grant select (project_id, id, name, role, kind, prefix, created_by, created_at, last_used_at, expires_at, revoked_at),
      insert on memcube.api_keys to memcube_operator;
grant select (project_id, handle, used_at) on memcube.invitations to memcube_operator;

grant insert on memcube.project_events to memcube_governor;
grant select (id) on memcube.projects to memcube_governor;

-- ── policies: default-deny, one per command, bare settings ─────────────────────────────────────────

do $$
declare t text;
begin
  foreach t in array array['accounts', 'sessions', 'refresh_tokens', 'members', 'invitations', 'project_events',
                           'embedding_models', 'relay_cursor'] loop
    execute format('alter table memcube.%I enable row level security', t);
    execute format('alter table memcube.%I force row level security', t);
  end loop;
end $$;
drop policy tenant on memcube.api_keys;
drop policy operate on memcube.api_keys;

-- The door: one credential, one account.
create policy doorkeeper_select on memcube.accounts for select to memcube_doorkeeper
  using (email_key = current_setting('app.lookup', true) or id::text = current_setting('app.account', true));
create policy doorkeeper_insert on memcube.accounts for insert to memcube_doorkeeper
  with check (id::text = current_setting('app.account', true));
create policy doorkeeper_update on memcube.accounts for update to memcube_doorkeeper
  using (id::text = current_setting('app.account', true))
  with check (id::text = current_setting('app.account', true));

create policy doorkeeper_select on memcube.sessions for select to memcube_doorkeeper
  using (account_id::text = current_setting('app.account', true) or id::text = current_setting('app.lookup', true));
create policy doorkeeper_insert on memcube.sessions for insert to memcube_doorkeeper
  with check (account_id::text = current_setting('app.account', true));
create policy doorkeeper_update on memcube.sessions for update to memcube_doorkeeper
  using (account_id::text = current_setting('app.account', true))
  with check (account_id::text = current_setting('app.account', true));
create policy doorkeeper_forget on memcube.sessions for delete to memcube_doorkeeper
  using (expires_at < now() - interval '1 day');
create policy doorkeeper_forget_seen on memcube.sessions for select to memcube_doorkeeper
  using (expires_at < now() - interval '1 day');

create policy doorkeeper_select on memcube.refresh_tokens for select to memcube_doorkeeper
  using (account_id::text = current_setting('app.account', true) and hash = current_setting('app.lookup', true));
create policy doorkeeper_insert on memcube.refresh_tokens for insert to memcube_doorkeeper
  with check (account_id::text = current_setting('app.account', true));
create policy doorkeeper_update on memcube.refresh_tokens for update to memcube_doorkeeper
  using (account_id::text = current_setting('app.account', true) and hash = current_setting('app.lookup', true))
  with check (account_id::text = current_setting('app.account', true) and hash = current_setting('app.lookup', true));
create policy doorkeeper_forget on memcube.refresh_tokens for delete to memcube_doorkeeper
  using (expires_at < now() - interval '1 day');
create policy doorkeeper_forget_seen on memcube.refresh_tokens for select to memcube_doorkeeper
  using (expires_at < now() - interval '1 day');

create policy doorkeeper_select on memcube.members for select to memcube_doorkeeper
  using (account_id::text = current_setting('app.account', true));
create policy doorkeeper_insert on memcube.members for insert to memcube_doorkeeper
  with check (account_id::text = current_setting('app.account', true)
              and project_id = current_setting('app.project_id', true));

create policy doorkeeper_select on memcube.invitations for select to memcube_doorkeeper
  using (hash = current_setting('app.lookup', true));
create policy doorkeeper_update on memcube.invitations for update to memcube_doorkeeper
  using (hash = current_setting('app.lookup', true))
  with check (hash = current_setting('app.lookup', true));

create policy doorkeeper_select on memcube.api_keys for select to memcube_doorkeeper
  using (hash = current_setting('app.lookup', true) or id::text = current_setting('app.lookup', true));
create policy doorkeeper_update on memcube.api_keys for update to memcube_doorkeeper
  using (hash = current_setting('app.lookup', true))
  with check (hash = current_setting('app.lookup', true));

create policy doorkeeper_select on memcube.projects for select to memcube_doorkeeper
  using (id = current_setting('app.project_id', true));
create policy doorkeeper_insert on memcube.projects for insert to memcube_doorkeeper
  with check (id = current_setting('app.project_id', true));

-- Every member sees who is in the project; an OWNER manages all, an ADMIN those below, each by an account; one may leave.
create policy user_select on memcube.members for select to memcube_user
  using (project_id = current_setting('app.project_id', true));
create policy user_update on memcube.members for update to memcube_user
  using (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and (current_setting('app.role', true) = 'OWNER'
              or current_setting('app.role', true) = 'ADMIN' and role in ('MEMBER', 'AGENT', 'VIEWER')))
  with check (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and (current_setting('app.role', true) = 'OWNER'
              or current_setting('app.role', true) = 'ADMIN' and role in ('MEMBER', 'AGENT', 'VIEWER')));
create policy user_delete on memcube.members for delete to memcube_user
  using (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and (current_setting('app.role', true) = 'OWNER'
              or current_setting('app.role', true) = 'ADMIN' and role in ('MEMBER', 'AGENT', 'VIEWER')
              or account_id::text = current_setting('app.account', true)));

create policy user_select on memcube.invitations for select to memcube_user
  using (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and current_setting('app.role', true) in ('OWNER', 'ADMIN'));
create policy user_insert on memcube.invitations for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and created_by = current_setting('app.principal', true)
         and (current_setting('app.role', true) = 'OWNER'
              or current_setting('app.role', true) = 'ADMIN' and role in ('MEMBER', 'AGENT', 'VIEWER')));
create policy user_delete on memcube.invitations for delete to memcube_user
  using (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and used_at is null
         and (current_setting('app.role', true) = 'OWNER'
              or current_setting('app.role', true) = 'ADMIN' and role in ('MEMBER', 'AGENT', 'VIEWER')));

create policy user_select on memcube.api_keys for select to memcube_user
  using (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and current_setting('app.role', true) in ('OWNER', 'ADMIN'));
create policy user_insert on memcube.api_keys for insert to memcube_user
  with check (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and created_by = current_setting('app.principal', true)
         and (current_setting('app.role', true) = 'OWNER'
              or current_setting('app.role', true) = 'ADMIN' and role <> 'OWNER'));
create policy user_update on memcube.api_keys for update to memcube_user
  using (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and (current_setting('app.role', true) = 'OWNER'
              or current_setting('app.role', true) = 'ADMIN' and role <> 'OWNER'))
  with check (project_id = current_setting('app.project_id', true) and current_setting('app.account', true) <> ''
         and revoked_at is not null
         and (current_setting('app.role', true) = 'OWNER'
              or current_setting('app.role', true) = 'ADMIN' and role <> 'OWNER'));

create policy user_select on memcube.project_events for select to memcube_user
  using (project_id = current_setting('app.project_id', true)
         and current_setting('app.role', true) in ('OWNER', 'ADMIN'));

-- An administrator at psql is in no project; everybody else writes the events of their own.
create policy governor_insert on memcube.project_events for insert to memcube_governor
  with check (project_id = current_setting('app.project_id', true)
              or coalesce(current_setting('app.project_id', true), '') = '');
create policy governor_select on memcube.projects for select to memcube_governor
  using (id = current_setting('app.project_id', true)
         or coalesce(current_setting('app.project_id', true), '') = '');

-- The operator at the terminal.
create policy operator_select on memcube.accounts for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_insert on memcube.accounts for insert to memcube_operator
  with check (current_setting('app.principal', true) = 'operator');
create policy operator_select on memcube.members for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_insert on memcube.members for insert to memcube_operator
  with check (current_setting('app.principal', true) = 'operator');
create policy operator_select on memcube.invitations for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_select on memcube.api_keys for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_insert on memcube.api_keys for insert to memcube_operator
  with check (current_setting('app.principal', true) = 'operator');

-- The two tables of no project.
create policy user_select on memcube.embedding_models for select to memcube_user
  using (current_setting('app.project_id', true) <> '');
create policy worker_select on memcube.embedding_models for select to memcube_worker
  using (current_setting('app.principal', true) like 'room:%');
create policy worker_insert on memcube.embedding_models for insert to memcube_worker
  with check (current_setting('app.principal', true) = 'room:embedding');
create policy relay_select on memcube.relay_cursor for select to memcube_relay
  using (current_setting('app.principal', true) = 'room:relay');
create policy relay_update on memcube.relay_cursor for update to memcube_relay
  using (current_setting('app.principal', true) = 'room:relay')
  with check (current_setting('app.principal', true) = 'room:relay');


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
