-- name: find_key
-- Whose key has this hash, of whatever project, while it is neither revoked nor expired.
select project_id, id, name, role, expires_at from api_keys
 where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now());

-- name: find_key_by_id
-- The same by its id, for a connection that came in by it.
select project_id, id, name, role, expires_at from api_keys
 where project_id = $1 and id = $2 and revoked_at is null and (expires_at is null or expires_at > now());

-- name: find_session_account
-- Whose session this is, while it lasts.
select account_id from sessions where id = $1 and ended_at is null and expires_at > now();

-- name: find_seat
-- The place of a live session's account in a project: no row where the session is over, no handle where it is no member.
select m.handle, m.role
  from sessions s
  join accounts a on a.id = s.account_id and a.disabled_at is null
  left join members m on m.account_id = s.account_id and m.project_id = $3
 where s.account_id = $1 and s.id = $2 and s.ended_at is null and s.expires_at > now();

-- name: touch_key
-- When a key was last used; once a minute at most, however many gateways saw it.
update api_keys set last_used_at = $2::timestamptz
 where hash = $1 and (last_used_at is null or last_used_at < $2::timestamptz - interval '55 seconds');

-- name: find_account
-- The account behind an e-mail.
select id, email, name, password, disabled_at is not null as disabled from accounts where email_key = $1;

-- name: read_account
-- An account as it sees itself.
select id, email, name, may_create_projects, created_at from accounts where id = $1;

-- name: read_password
-- The password hash of an account, to prove it once more.
select password from accounts where id = $1 and disabled_at is null;

-- name: insert_account
-- Make an account, unless the e-mail has one.
insert into accounts (id, email, email_key, name, password) values ($1, $2, $3, $4, $5)
on conflict (email_key) do nothing returning id;

-- name: change_password
-- Put a new password hash in the place of the one that was proved.
update accounts set password = $3, password_changed_at = now() where id = $1 and password = $2 returning id;

-- name: rehash_password
-- The same password under today's parameters.
update accounts set password = $3 where id = $1 and password = $2 returning id;

-- name: open_session
-- Begin a session of at most 90 days, if the password that was proved is still the account's; a change of password at
-- this moment waits and ends it, or is waited for and refuses it.
insert into sessions (account_id, id, expires_at)
select a.id, $2, now() + interval '90 days' from accounts a
 where a.id = $1 and a.password = $3 and a.disabled_at is null
   for share
returning id;

-- name: keep_refresh_token
-- A refresh token lives 30 days, and never longer than its session.
insert into refresh_tokens (account_id, session_id, hash, expires_at)
select s.account_id, s.id, $3, least(now() + interval '30 days', s.expires_at) from sessions s
 where s.account_id = $1 and s.id = $2;

-- name: take_refresh_token
-- A refresh token, held until the end of the transaction so that racers come one after the other.
select t.session_id, t.used_at is not null as used, t.child_hash,
       coalesce(clock_timestamp() - t.used_at > interval '10 seconds', false) as reused,
       t.expires_at > now() and s.ended_at is null and s.expires_at > now() and a.disabled_at is null as alive,
       a.email, a.name
  from refresh_tokens t
  join sessions s on s.account_id = t.account_id and s.id = t.session_id
  join accounts a on a.id = t.account_id
 where t.account_id = $1 and t.hash = $2
   for update of t;

-- name: use_refresh_token
-- Mark a refresh token as used, and remember the child it got.
update refresh_tokens set used_at = clock_timestamp(), child_hash = $3 where account_id = $1 and hash = $2;

-- name: touch_session
-- When a session was last refreshed.
update sessions set last_used_at = now() where account_id = $1 and id = $2;

-- name: end_session
-- End one session of an account.
update sessions set ended_at = now(), end_reason = $3 where account_id = $1 and id = $2 and ended_at is null;

-- name: end_other_sessions
-- End every session of an account but one.
update sessions set ended_at = now(), end_reason = 'password_changed'
 where account_id = $1 and id <> $2 and ended_at is null;

-- name: forget_sessions
-- Drop sessions that ended by time more than a day ago, at most $1; their tokens go with them.
delete from sessions s using (
  select account_id, id from sessions where expires_at < now() - interval '1 day' order by expires_at limit $1) old
 where s.account_id = old.account_id and s.id = old.id and s.expires_at < now() - interval '1 day'
returning 1;

-- name: forget_refresh_tokens
-- Drop refresh tokens that ended by time more than a day ago, at most $1.
delete from refresh_tokens t using (
  select account_id, hash from refresh_tokens where expires_at < now() - interval '1 day' order by expires_at limit $1) old
 where t.account_id = old.account_id and t.hash = old.hash and t.expires_at < now() - interval '1 day'
returning 1;

-- name: find_invitation
-- An invitation that is still open.
select project_id, role, handle, created_by from invitations
 where hash = $1 and used_at is null and expires_at > now();

-- name: insert_member
-- An account joins a project; the database asks for the invitation and uses it up.
insert into members (project_id, account_id, handle, role, created_by) values ($1, $2, $3, $4, $5);

-- name: list_memberships
-- Every project an account is a member of.
select project_id, handle, role, created_at from members where account_id = $1 order by project_id;

-- name: is_language
-- Whether this server can index this language.
select exists (select from pg_catalog.pg_ts_config where cfgname = $1 and cfgnamespace = 'pg_catalog'::regnamespace);

-- name: insert_project
-- Make a project, unless there is one of this name.
insert into projects (id, language) values ($1, $2) on conflict do nothing returning created_at;

-- name: list_members
-- Who is in a project.
select handle, role, created_at, created_by from members where project_id = $1 order by handle;

-- name: hold_members
-- The lock under which a project's members are changed, until the end of the transaction.
select lock_members($1);

-- name: find_member
-- The role of one member.
select role from members where project_id = $1 and handle = $2;

-- name: change_role
-- Give a member another role.
update members set role = $3 where project_id = $1 and handle = $2
returning handle, role, created_at, created_by;

-- name: remove_member
-- Take a member out of a project.
delete from members where project_id = $1 and handle = $2 returning handle;

-- name: withdraw_invitations_of
-- Nobody joins any more by the word of somebody who may not give it any more.
delete from invitations where project_id = $1 and created_by = $2 and used_at is null;

-- name: list_invitations
-- Invitations nobody used yet.
select id, handle, role, created_by, created_at, expires_at from invitations
 where project_id = $1 and used_at is null order by handle;

-- name: insert_invitation
-- Invite somebody under a handle.
insert into invitations (project_id, id, hash, role, handle, created_by, expires_at)
values ($1, $2, $3, $4, $5, $6, now() + interval '7 days') returning expires_at;

-- name: withdraw_invitation
-- Take back the open invitation of a handle.
delete from invitations where project_id = $1 and handle = $2 and used_at is null returning handle;

-- name: list_keys
-- The keys of a project, newest first; what is secret of them is not kept.
select id, name, kind, role, prefix, created_by, created_at, last_used_at, expires_at, revoked_at
  from api_keys where project_id = $1 order by created_at desc, id desc;

-- name: find_key_role
-- The role of one key.
select role from api_keys where project_id = $1 and id = $2;

-- name: insert_key
-- Keep a new key by its hash.
insert into api_keys (project_id, id, name, role, kind, prefix, hash, created_by, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning created_at;

-- name: revoke_key
-- A key opens nothing any more; the first time counts.
update api_keys set revoked_at = coalesce(revoked_at, now()) where project_id = $1 and id = $2 returning id;

-- name: read_events
-- What happened to a project, newest first, before an event.
select id, at, kind, actor, source, subject, details from project_events
 where project_id = $1
   and ($2::uuid is null or (at, id) < (select e.at, e.id from project_events e where e.project_id = $1 and e.id = $2))
 order by at desc, id desc limit $3;
