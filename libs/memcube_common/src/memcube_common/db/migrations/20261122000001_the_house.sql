-- migrate:up

-- Who may do what. Provisioning makes the roles (they belong to the cluster, not to this database):
--   memcube_owner              owns everything here; migrations only
--   memcube_login_<room>       what a process signs in as; owns nothing, may only become one of the next
--   memcube_user, memcube_anon what a request becomes        memcube_worker  what a room's own work becomes
--   memcube_relay              reads the outbox, numbers it  memcube_operator  the parked drawer
--   memcube_search, memcube_dispatch, memcube_feed           narrow owners of the definer functions below
grant usage on schema memcube to
  memcube_user, memcube_anon, memcube_worker, memcube_relay, memcube_operator,
  memcube_search, memcube_dispatch, memcube_feed,
  memcube_login_gateway, memcube_login_ingestion, memcube_login_embedding,
  memcube_login_scheduling, memcube_login_marketplace, memcube_login_lifecycle;

-- ── who ────────────────────────────────────────────────────────────────────────────────────────────

create table memcube.projects (
  id         text primary key check (id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  language   text not null default 'english',
  created_at timestamptz not null default now()
);
comment on column memcube.projects.language is 'Text search configuration its memories are indexed with.';

create table memcube.api_keys (
  project_id   text not null references memcube.projects (id) on delete cascade,
  id           uuid not null,
  name         text not null,
  role         text not null check (role in ('OWNER', 'ADMIN', 'MEMBER', 'AGENT', 'VIEWER', 'SERVICE')),
  hash         bytea not null,
  created_at   timestamptz not null default now(),
  revoked_at   timestamptz,
  primary key (project_id, id),
  unique (project_id, hash)
);

create table memcube.idempotency_keys (
  project_id   text not null,
  principal    text not null,
  route        text not null,
  key          text not null,
  request_hash bytea not null,
  status       int,
  body         bytea,
  created_at   timestamptz not null default now(),
  primary key (project_id, principal, route, key)
);
create index idempotency_keys_age on memcube.idempotency_keys (created_at);

-- ── what agents learned ────────────────────────────────────────────────────────────────────────────

create table memcube.insights (
  project_id    text not null,
  id            uuid not null,
  agent_id      text not null,
  via           text not null check (via in ('http', 'nats')),
  insight       text not null,
  label         text,
  tags          text[] not null default '{}',
  evidence_refs text[] not null default '{}',
  sentiment     real check (sentiment between -1 and 1),
  support_count int not null default 1,
  priority      text not null check (priority in ('HOT', 'WARM', 'COLD')),
  governance    jsonb not null,
  metadata      jsonb not null,
  memory_id     uuid not null,
  state         text not null check (state in ('accepted', 'stored', 'parked')),
  reason        text,
  accepted_at   timestamptz not null default now(),
  stored_at     timestamptz,
  primary key (project_id, id)
) partition by hash (project_id);
create index insights_memory on memcube.insights (memory_id, project_id);

-- ── memories ───────────────────────────────────────────────────────────────────────────────────────

create table memcube.memories (
  project_id       text not null,
  id               uuid not null,
  label            text not null,
  type             text not null check (type in ('PLAINTEXT', 'ACTIVATION', 'PARAMETER')),
  version          int not null default 1 check (version >= 1),
  origin           text not null,
  provenance_id    uuid not null,
  parents          uuid[] not null default '{}',
  tags             text[] not null default '{}',
  governance       jsonb not null,
  metadata         jsonb not null,
  priority         text not null check (priority in ('HOT', 'WARM', 'COLD')),
  lifecycle        text not null default 'NEW' check (lifecycle in ('NEW', 'ACTIVE', 'STALE', 'ARCHIVED', 'EXPIRED')),
  trust            text not null default 'trusted' check (trust in ('trusted', 'untrusted', 'quarantined')),
  usage_hits       bigint not null default 0,
  last_used        timestamptz,
  kv_hint          text,
  watermark        text,
  created_by       text not null,
  created_at       timestamptz not null,
  updated_at       timestamptz not null,
  stored_at        timestamptz not null default now(),
  embedding_state  text not null default 'pending' check (embedding_state in ('pending', 'ready', 'failed')),
  embedding_model  text,
  embedding_reason text,
  embedded_at      timestamptz,
  primary key (project_id, id)
) partition by hash (project_id);
-- Partial, so that no statement that names ids can be tempted to walk a whole project through it: a project that is
-- not in its partition's statistics yet is taken for one row.
create index memories_recent on memcube.memories (project_id, created_at desc, id desc)
  where lifecycle not in ('ARCHIVED', 'EXPIRED');

create table memcube.memory_payloads (
  project_id   text not null,
  memory_id    uuid not null,
  storage_mode text not null check (storage_mode in ('INLINE', 'COMPRESSED', 'COLD')),
  content      text,
  content_zstd bytea,
  size_bytes   int not null,
  token_count  int not null,
  checksum     bytea not null,
  primary key (project_id, memory_id),
  check (num_nonnulls(content, content_zstd) = 1 or storage_mode = 'COLD')
) partition by hash (project_id);

-- What search reads, apart from memories so that a metadata update touches neither GIN nor vectors:
-- the words are written with the memory, the vector arrives later, so they are two narrow tables.
create table memcube.memory_text (
  project_id text not null,
  memory_id  uuid not null,
  tags       text[] not null default '{}',
  tsv        tsvector not null,
  primary key (project_id, memory_id)
) partition by hash (project_id);

create table memcube.embedding_models (
  generation  smallint generated always as identity primary key,
  name        text not null,
  dimensions  int not null check (dimensions between 1 and 4000),
  fingerprint text not null,
  created_at  timestamptz not null default now(),
  unique (name, dimensions, fingerprint)
);

-- "bit" in quotes is the type without a length (bit alone means bit(1)); halfvec likewise, since each generation
-- has its own number of dimensions.
create table memcube.memory_vectors (
  project_id   text not null,
  generation   smallint not null,
  memory_id    uuid not null,
  content_hash bytea not null,
  tags         text[] not null default '{}',
  embedding    public.halfvec not null,
  bits         "bit" generated always as (public.binary_quantize(embedding)) stored,
  primary key (project_id, generation, memory_id) include (bits, tags)
) partition by hash (project_id);

do $$
begin
  for i in 0..15 loop
    execute format('create table memcube.insights_p%s partition of memcube.insights for values with (modulus 16, remainder %s)', i, i);
    execute format('create table memcube.memories_p%s partition of memcube.memories for values with (modulus 16, remainder %s) with (fillfactor = 85)', i, i);
    execute format('create table memcube.memory_payloads_p%s partition of memcube.memory_payloads for values with (modulus 16, remainder %s)', i, i);
    execute format('create table memcube.memory_text_p%s partition of memcube.memory_text for values with (modulus 16, remainder %s)', i, i);
    execute format('create table memcube.memory_vectors_p%s partition of memcube.memory_vectors for values with (modulus 16, remainder %s) with (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02)', i, i);
    execute format('alter table memcube.memory_vectors_p%s alter embedding set storage plain', i);
  end loop;
end $$;

-- btree_gin is contrib and comes with nearly every server; without it the index is on the words and tags alone.
do $$
begin
  if exists (select from pg_extension where extname = 'btree_gin') then
    create index memory_text_search on memcube.memory_text using gin (project_id, tsv, tags) with (gin_pending_list_limit = 1024);
  else
    create index memory_text_search on memcube.memory_text using gin (tsv, tags) with (gin_pending_list_limit = 1024);
  end if;
end $$;

-- ── work that waits ────────────────────────────────────────────────────────────────────────────────

create table memcube.work_queue (
  kind       text not null check (kind in ('insight', 'embedding')),
  project_id text not null,
  item_id    uuid not null,
  due_at     timestamptz not null default now(),
  attempts   int not null default 0,
  primary key (project_id, kind, item_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500);
create index work_queue_due on memcube.work_queue (kind, project_id, due_at);
comment on table memcube.work_queue is 'A row is work still to be done; doing it deletes the row in the same transaction.';

-- Hand out due work, fairly over projects, leased: a worker that dies gives it back when the lease ends.
-- Returns names only; the work itself is read and done as that project's worker, under its policies.
create function memcube.claim_work(p_kind text, p_limit int, p_lease interval)
returns table (project_id text, item_id uuid, attempts int)
language plpgsql security definer set search_path = '' as $$
begin
  return query
  with recursive waiting (project) as (
    (select w.project_id from memcube.work_queue w where w.kind = p_kind order by w.project_id limit 1)
    union all
    select (select w.project_id from memcube.work_queue w
             where w.kind = p_kind and w.project_id > waiting.project order by w.project_id limit 1)
      from waiting where waiting.project is not null
  ),
  ready as (   -- where more projects have due work than the claim is large, each has the same chance
    select waiting.project from waiting
     where exists (select from memcube.work_queue w
                    where w.kind = p_kind and w.project_id = waiting.project and w.due_at <= clock_timestamp())
     order by random() limit p_limit
  ),
  share as (select greatest(1, p_limit / greatest(1, count(*)::int)) as size from ready),
  picked as (
    select due.project_id, due.item_id
      from ready cross join share
      cross join lateral (
        select w.project_id, w.item_id from memcube.work_queue w
         where w.kind = p_kind and w.project_id = ready.project and w.due_at <= clock_timestamp()
         order by w.due_at limit share.size for update skip locked) due
     limit p_limit
  )
  update memcube.work_queue q
     set due_at = clock_timestamp() + p_lease, attempts = q.attempts + 1
    from picked
   where q.kind = p_kind and q.project_id = picked.project_id and q.item_id = picked.item_id
  returning q.project_id, q.item_id, q.attempts;
end $$;

create table memcube.parked (
  project_id  text not null,
  id          uuid not null,
  source      text not null,
  subject     text not null,
  headers     jsonb not null default '{}',
  payload     bytea not null,
  reason      text not null,
  attempts    int not null,
  parked_at   timestamptz not null default now(),
  primary key (project_id, id)
);
comment on table memcube.parked is 'Messages that cannot be handled, with the reason; project_id is empty where the subject names none.';

-- ── the change feed: a transactional outbox ────────────────────────────────────────────────────────

create sequence memcube.changes_seq cache 1;   -- cache 1: the relay's horizon depends on it
select setval('memcube.changes_seq', 1, true);

create table memcube.changes (
  seq        bigint not null default nextval('memcube.changes_seq'),
  day        date not null default (now() at time zone 'utc')::date,
  project_id text not null,
  type       text not null,
  agent      text,
  body       jsonb not null,
  at         timestamptz not null default clock_timestamp(),
  primary key (seq, day)
) partition by range (day);

-- The place of a change in its project: 1, 2, 3 … without gaps, given by the relay in commit order.
create table memcube.feed (
  project_id text not null,
  position   bigint not null,
  seq        bigint not null,
  day        date not null,
  primary key (project_id, position, day)
) partition by range (day);
create index feed_seq on memcube.feed (seq);

create table memcube.feed_heads (
  project_id text primary key,
  position   bigint not null
) with (fillfactor = 50);

create table memcube.relay_cursor (
  only_one  boolean primary key default true check (only_one),
  leader      text not null default '',
  lease_until timestamptz not null default now(),
  placed    bigint not null default 1,
  published bigint not null default 1
);
insert into memcube.relay_cursor default values;

create table memcube.changes_rest partition of memcube.changes default;
create table memcube.feed_rest partition of memcube.feed default;

-- Make the partitions of the coming days and drop those older than `p_keep` days (0 drops none).
create function memcube.maintain_partitions(p_ahead int, p_keep int) returns int
language plpgsql security definer set search_path = '' as $$
declare
  today date := (now() at time zone 'utc')::date;
  parent text; d date; old record; made int := 0;
begin
  perform pg_advisory_xact_lock(4712);
  foreach parent in array array['changes', 'feed'] loop
    for i in 0..p_ahead loop
      d := today + i;
      if to_regclass(format('memcube.%I', parent || '_' || to_char(d, 'YYYYMMDD'))) is null then
        begin
          execute format('create table memcube.%I partition of memcube.%I for values from (%L) to (%L)',
                         parent || '_' || to_char(d, 'YYYYMMDD'), parent, d, d + 1);
          execute format('alter table memcube.%I enable row level security', parent || '_' || to_char(d, 'YYYYMMDD'));
          execute format('alter table memcube.%I force row level security', parent || '_' || to_char(d, 'YYYYMMDD'));
          made := made + 1;
        exception when check_violation then
          null;   -- rows of that day already lie in the rest partition: they are served from there
        end;
      end if;
    end loop;
    if p_keep > 0 then
      for old in
        select c.relname from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
         where i.inhparent = format('memcube.%I', parent)::regclass
           and c.relname ~ ('^' || parent || '_[0-9]{8}$')
           and to_date(right(c.relname, 8), 'YYYYMMDD') < today - p_keep
      loop
        execute format('drop table memcube.%I', old.relname);
      end loop;
    end if;
  end loop;
  return made;
end $$;
select memcube.maintain_partitions(7, 0);

-- Mark this transaction as one that may still write below the numbers drawn from here on; the relay
-- never reads past the smallest such mark. A commit becomes visible before its locks are released.
create function memcube.enter_feed() returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform pg_catalog.pg_advisory_xact_lock_shared((4711::bigint << 48) | (select last_value from memcube.changes_seq));
end $$;

create function memcube.on_memories_written() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform memcube.enter_feed();
  if tg_op = 'INSERT' then
    insert into memcube.changes (project_id, type, body)
    select project_id, 'memory.v1.created', pg_catalog.jsonb_build_object(
             'memory_id', id, 'version', version, 'memory_type', type, 'label', label, 'tags', tags,
             'lifecycle', lifecycle, 'actor', created_by)
      from after_rows order by id;
  elsif tg_op = 'DELETE' then
    insert into memcube.changes (project_id, type, body)
    select project_id, 'memory.v1.purged', pg_catalog.jsonb_build_object(
             'memory_id', id, 'version', version, 'memory_type', type, 'label', label, 'tags', tags,
             'lifecycle', lifecycle, 'actor', coalesce(nullif(pg_catalog.current_setting('app.principal', true), ''), session_user))
      from before_rows order by id;
  else
    insert into memcube.changes (project_id, type, body)
    select project_id, type, body from (
      select a.project_id, a.id,
             case
               when a.lifecycle <> b.lifecycle and a.lifecycle = 'ARCHIVED' then 'memory.v1.archived'
               when a.lifecycle <> b.lifecycle and a.lifecycle = 'EXPIRED' then 'memory.v1.expired'
               when a.lifecycle <> b.lifecycle and b.lifecycle in ('ARCHIVED', 'EXPIRED') then 'memory.v1.restored'
               when a.lifecycle <> b.lifecycle and b.lifecycle = 'NEW' and a.lifecycle = 'ACTIVE' then 'memory.v1.promoted'
               when a.embedding_state = 'ready' and a.embedded_at is distinct from b.embedded_at then 'memory.v1.embedded'
               else 'memory.v1.updated'
             end as type,
             pg_catalog.jsonb_build_object(
               'memory_id', a.id, 'version', a.version, 'memory_type', a.type, 'label', a.label, 'tags', a.tags,
               'lifecycle', a.lifecycle,
               'actor', coalesce(nullif(pg_catalog.current_setting('app.principal', true), ''), session_user),
               'changed', pg_catalog.to_jsonb(pg_catalog.array_remove(array[
                 case when a.label <> b.label then 'label' end,
                 case when a.tags <> b.tags then 'tags' end,
                 case when a.governance <> b.governance then 'governance' end,
                 case when a.metadata <> b.metadata then 'metadata' end,
                 case when a.priority <> b.priority then 'priority' end,
                 case when a.lifecycle <> b.lifecycle then 'lifecycle' end,
                 case when a.trust <> b.trust then 'trust' end,
                 case when a.version <> b.version then 'version' end,
                 case when a.embedding_state <> b.embedding_state then 'embedding' end], null))) as body
        from after_rows a join before_rows b on b.project_id = a.project_id and b.id = a.id) described
     where type <> 'memory.v1.updated' or body -> 'changed' <> '[]'
     order by id;
  end if;
  return null;
end $$;

create trigger memories_inserted after insert on memcube.memories
  referencing new table as after_rows for each statement execute function memcube.on_memories_written();
create trigger memories_updated after update on memcube.memories
  referencing old table as before_rows new table as after_rows for each statement execute function memcube.on_memories_written();
create trigger memories_deleted after delete on memcube.memories
  referencing old table as before_rows for each statement execute function memcube.on_memories_written();

-- Tell agents what became of insights they sent over NATS. The project is the transaction's own, never an argument.
create function memcube.announce_receipts(p_type text, p_agents text[], p_receipts uuid[], p_memories uuid[], p_reasons text[])
returns void language plpgsql security definer set search_path = '' as $$
begin
  perform memcube.enter_feed();
  insert into memcube.changes (project_id, type, agent, body)
  select pg_catalog.current_setting('app.project_id'), p_type, agent, pg_catalog.jsonb_strip_nulls(
           pg_catalog.jsonb_build_object('receipt_id', receipt, 'memory_id', memory, 'agent', agent, 'reason', reason))
    from unnest(p_agents, p_receipts, p_memories, p_reasons) as given (agent, receipt, memory, reason);
end $$;

-- Ids of the memories whose words match best. `@@` is not leakproof, so under a policy it would lose its
-- index (4.6 → 155 ms at 100,000 rows); this function reads one project, the transaction's own, and its
-- callers join the ids back under their policies, which decide what is seen.
create function memcube.text_candidates(p_query tsquery, p_tags text[], p_ranked int, p_limit int)
returns table (memory_id uuid, score real)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  if p_tags = '{}' then
    return query
    select c.memory_id, pg_catalog.ts_rank(c.tsv, p_query, 1) as s
      from (select t.memory_id, t.tsv from memcube.memory_text t
             where t.project_id = project and t.tsv @@ p_query limit p_ranked) c
     order by s desc, c.memory_id desc limit p_limit;
  else
    return query
    select c.memory_id, pg_catalog.ts_rank(c.tsv, p_query, 1) as s
      from (select t.memory_id, t.tsv from memcube.memory_text t
             where t.project_id = project and t.tsv @@ p_query and t.tags @> p_tags limit p_ranked) c
     order by s desc, c.memory_id desc limit p_limit;
  end if;
end $$;

-- Newest memories that carry all tags; same reason, same safeguard as text_candidates.
create function memcube.tag_candidates(p_tags text[], p_limit int)
returns table (memory_id uuid)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  return query
  select t.memory_id from memcube.memory_text t
   where t.project_id = project and t.tags @> p_tags
   order by t.memory_id desc limit p_limit;
end $$;

-- A connection just borrowed must carry nothing of its last borrower.
create function memcube.assert_clean() returns void
language plpgsql set search_path = '' as $$
begin
  if current_user <> session_user or coalesce(current_setting('app.project_id', true), '') <> '' then
    raise exception 'a connection came back dirty: role %, project set %', current_user,
      coalesce(current_setting('app.project_id', true), '') <> '';
  end if;
end $$;

-- ── owners of the definer functions ────────────────────────────────────────────────────────────────

-- Before they change hands: afterwards a revoke by memcube_owner would change nothing, quietly.
revoke execute on all functions in schema memcube from public;
grant execute on function memcube.assert_clean() to
  memcube_login_gateway, memcube_login_ingestion, memcube_login_embedding,
  memcube_login_scheduling, memcube_login_marketplace, memcube_login_lifecycle;
grant execute on function memcube.text_candidates(tsquery, text[], int, int) to memcube_user;
grant execute on function memcube.tag_candidates(text[], int) to memcube_user;
grant execute on function memcube.claim_work(text, int, interval) to memcube_worker;
grant execute on function memcube.announce_receipts(text, text[], uuid[], uuid[], text[]) to memcube_worker;
grant execute on function memcube.maintain_partitions(int, int) to memcube_worker;
grant execute on function memcube.enter_feed() to memcube_feed;
grant execute on function memcube.on_memories_written() to memcube_user, memcube_worker;

grant create on schema memcube to memcube_search, memcube_dispatch, memcube_feed;
alter function memcube.text_candidates(tsquery, text[], int, int) owner to memcube_search;
alter function memcube.tag_candidates(text[], int) owner to memcube_search;
alter function memcube.claim_work(text, int, interval) owner to memcube_dispatch;
alter function memcube.enter_feed() owner to memcube_feed;
alter function memcube.on_memories_written() owner to memcube_feed;
alter function memcube.announce_receipts(text, text[], uuid[], uuid[], text[]) owner to memcube_feed;
revoke create on schema memcube from memcube_search, memcube_dispatch, memcube_feed;

grant select on memcube.memory_text to memcube_search;
grant select, update on memcube.work_queue to memcube_dispatch;
grant insert on memcube.changes to memcube_feed;
grant usage, select on sequence memcube.changes_seq to memcube_feed;

-- ── grants and policies: every table, forced, the transaction's own project ────────────────────────

grant select on memcube.projects to memcube_user, memcube_anon, memcube_worker;
grant select on memcube.api_keys to memcube_anon;
grant select on memcube.embedding_models to memcube_user, memcube_worker;
grant insert on memcube.embedding_models to memcube_worker;
grant select, insert, update on memcube.idempotency_keys to memcube_user;
grant delete, select on memcube.idempotency_keys to memcube_worker;
grant select, insert on memcube.insights to memcube_user;
grant select, insert, update on memcube.insights to memcube_worker;
grant select, insert on memcube.memories, memcube.memory_payloads, memcube.memory_text to memcube_user;
grant select, insert, update, delete on memcube.memories, memcube.memory_payloads, memcube.memory_text to memcube_worker;
grant select on memcube.memory_vectors to memcube_user;
grant select, insert, update, delete on memcube.memory_vectors to memcube_worker;
grant insert on memcube.work_queue to memcube_user;
grant select, insert, update, delete on memcube.work_queue to memcube_worker;
grant select, insert on memcube.parked to memcube_worker;
grant select, insert on memcube.projects, memcube.api_keys to memcube_operator;
grant select, delete on memcube.parked to memcube_operator;
grant select, update on memcube.insights to memcube_operator;
grant select, insert on memcube.work_queue to memcube_operator;
grant select on memcube.changes, memcube.feed, memcube.feed_heads to memcube_user;
grant select on memcube.changes to memcube_relay;
grant select, insert on memcube.feed to memcube_relay;
grant select, insert, update on memcube.feed_heads to memcube_relay;
grant select, update on memcube.relay_cursor to memcube_relay;
grant select on sequence memcube.changes_seq to memcube_relay;

do $$
declare t text;
begin
  foreach t in array array['api_keys', 'idempotency_keys', 'insights', 'memories', 'memory_payloads', 'memory_text',
                           'memory_vectors', 'work_queue', 'parked', 'changes', 'feed', 'feed_heads'] loop
    execute format('alter table memcube.%I enable row level security', t);
    execute format('alter table memcube.%I force row level security', t);
    execute format($p$create policy tenant on memcube.%I for all to memcube_user, memcube_anon, memcube_worker
                      using (project_id = current_setting('app.project_id', true))
                      with check (project_id = current_setting('app.project_id', true))$p$, t);
  end loop;
  alter table memcube.projects enable row level security;
  alter table memcube.projects force row level security;
  create policy tenant on memcube.projects for select to memcube_user, memcube_anon, memcube_worker
    using (id = current_setting('app.project_id', true));
end $$;

-- The named exceptions: roles that act across projects, each on the one table its function or room needs.
create policy candidates on memcube.memory_text for select to memcube_search using (true);
create policy dispatch on memcube.work_queue for all to memcube_dispatch using (true) with check (true);
create policy announce on memcube.changes for insert to memcube_feed with check (true);
create policy relay on memcube.changes for select to memcube_relay using (true);
create policy relay on memcube.feed for all to memcube_relay using (true) with check (true);
create policy relay on memcube.feed_heads for all to memcube_relay using (true) with check (true);
create policy operate on memcube.projects for all to memcube_operator using (true) with check (true);
create policy operate on memcube.api_keys for all to memcube_operator using (true) with check (true);
create policy operate on memcube.parked for all to memcube_operator using (true);
create policy operate on memcube.insights for all to memcube_operator using (true) with check (true);
create policy operate on memcube.work_queue for insert to memcube_operator with check (true);
create policy oversee on memcube.work_queue for select to memcube_operator using (true);
create policy forget on memcube.idempotency_keys for delete to memcube_worker using (created_at < now() - interval '24 hours');
create policy forget_seen on memcube.idempotency_keys for select to memcube_worker using (created_at < now() - interval '24 hours');

do $$
declare part regclass;
begin
  for part in select inhrelid::regclass from pg_inherits
               join pg_class c on c.oid = inhparent
              where c.relnamespace = 'memcube'::regnamespace and c.relkind = 'p' loop
    execute format('alter table %s enable row level security', part);
    execute format('alter table %s force row level security', part);
  end loop;
end $$;


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
