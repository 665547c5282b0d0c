-- name: take_mark
-- Where the caller's project stands, before anything of it is read.
select horizon, since, seen, settled, counted from take_mark();

-- name: mark_holds
-- Whether nothing has changed in the caller's project since a mark was taken, and the moment $6 has not passed.
select mark_holds($1, $2, $3, $4, $5, $6);

-- name: read_chosen
-- What was chosen in a schedule the caller may read.
select chosen from schedules where project_id = $1 and id = $2;

-- name: say_outcomes
-- Keep the caller's last word on memories of a schedule; how many are known of it, null where there is none such.
select say_outcomes($1, $2::uuid[], $3::text[]);

-- name: projects_to_recall
-- Projects with schedules of which it is not noted yet what was told.
select project_id from projects_to_recall($1);

-- name: projects_to_settle
-- Projects with schedules older than $1 seconds, or outcomes older than $2 seconds, that are not counted yet.
select project_id from projects_to_settle(make_interval(secs => $1), make_interval(secs => $2), $3);

-- name: projects_to_recommend
-- Projects settled since their recommendations were computed, if that is more than $1 seconds ago.
select project_id from projects_to_recommend(make_interval(secs => $1), $2);

-- name: take_recalls
-- Schedules, oldest first, of which it is noted from now on what was told.
update schedules s set recalled_at = now()
  from (select id from schedules where project_id = $1 and recalled_at is null
         order by made_at limit $2 for update skip locked) due
 where s.project_id = $1 and s.id = due.id
returning s.id, s.made_by, s.agent_id, s.for_others, s.chosen;

-- name: read_delivered
-- Schedules that were given out again.
select s.id, s.made_by, s.agent_id, s.for_others, s.made_at, s.chosen
  from unnest($2::uuid[]) as w (id)
 cross join lateral (select x.id, x.made_by, x.agent_id, x.for_others, x.made_at, x.chosen
                       from schedules x where x.project_id = $1 and x.id = w.id limit 1) s;

-- name: read_told
-- The texts of memories that were told, as far as they lie in the row; they are there until this transaction ends.
select m.id, p.content, p.content_zstd
  from (select distinct id from unnest($2::uuid[]) as w (id) order by id offset 0) w
 cross join lateral (select x.id from memories x
                      where x.project_id = $1 and x.id = w.id and x.type = 'PLAINTEXT' limit 1 for key share) m
 cross join lateral (select x.content, x.content_zstd from memory_payloads x
                      where x.project_id = $1 and x.memory_id = m.id and x.storage_mode <> 'COLD' limit 1) p;

-- name: hold_recommended
-- Of these memories those that are there, and stay there until this transaction ends.
select m.id
  from (select distinct id from unnest($2::uuid[]) as w (id) order by id offset 0) w
 cross join lateral (select x.id from memories x where x.project_id = $1 and x.id = w.id limit 1 for key share) m;

-- name: hold_used
-- Of these memories those that are there, held to be changed by this transaction alone.
select m.id
  from (select distinct id from unnest($2::uuid[]) as w (id) order by id offset 0) w
 cross join lateral (select x.id from memories x where x.project_id = $1 and x.id = w.id limit 1 for no key update) m;

-- name: open_mark
-- A project that was never settled has a mark from now on.
insert into usage_marks (project_id) values ($1) on conflict do nothing;

-- name: hold_mark
-- Settle this project alone, if nobody else is at it.
select settled from usage_marks where project_id = $1 for update skip locked;

-- name: move_mark
-- The project is settled once more: what was made before knows less.
update usage_marks set settled = settled + 1 where project_id = $1;

-- name: waiting_schedules
-- Schedules that wait to be counted as used, the oldest $2, and their memories.
select id, chosen from schedules where project_id = $1 and settled_at is null order by made_at limit $2;

-- name: waiting_outcomes
-- The memories on which outcomes wait to be counted, at most $2 of these.
select distinct o.memory_id
  from (select memory_id from schedule_outcomes where project_id = $1 and counted is distinct from outcome
         order by said_at limit $2) o;

-- name: take_schedules
-- Of these schedules those that count as used from now on: whichever came meanwhile waits, its memories are not held.
update schedules s set settled_at = now()
  from (select x.id
          from (select distinct id from unnest($2::uuid[]) as w (id) order by id offset 0) w
         cross join lateral (select y.id from schedules y
                              where y.project_id = $1 and y.id = w.id and y.settled_at is null
                              limit 1 for update skip locked) x) due
 where s.project_id = $1 and s.id = due.id
returning s.id, s.made_by, s.agent_id, s.made_at, s.chosen;

-- name: take_outcomes
-- Outcomes on memories $3, oldest first, that count from now on, with what counted before.
update schedule_outcomes o set counted = o.outcome
  from (select schedule_id, memory_id, counted from schedule_outcomes
         where project_id = $1 and counted is distinct from outcome and memory_id = any($3::uuid[])
         order by said_at limit $2 for update skip locked) due
 where o.project_id = $1 and o.schedule_id = due.schedule_id and o.memory_id = due.memory_id
returning o.memory_id, o.made_by, o.agent_id, o.said_at, due.counted as was, o.outcome;

-- name: count_uses
-- Add to how often agents were given memories.
insert into memory_uses as u (project_id, memory_id, made_by, agent_id, scheduled, last_at)
select $1, g.memory_id, g.made_by, g.agent_id, g.scheduled, g.last_at
  from unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[])
    as g (memory_id, made_by, agent_id, scheduled, last_at)
on conflict (project_id, memory_id, made_by, agent_id) do update
   set scheduled = u.scheduled + excluded.scheduled, last_at = greatest(u.last_at, excluded.last_at);

-- name: add_outcomes
-- Add to, or take from, the outcomes known of memories that agents were given.
update memory_uses u
   set used = greatest(u.used + g.used, 0), ignored = greatest(u.ignored + g.ignored, 0),
       helpful = greatest(u.helpful + g.helpful, 0), harmful = greatest(u.harmful + g.harmful, 0)
  from unnest($2::uuid[], $3::text[], $4::text[], $5::int[], $6::int[], $7::int[], $8::int[])
    as g (memory_id, made_by, agent_id, used, ignored, helpful, harmful)
 where u.project_id = $1 and u.memory_id = any($2::uuid[]) and u.memory_id = g.memory_id and u.made_by = g.made_by and u.agent_id = g.agent_id;

-- name: read_voices
-- What each principal said of these memories, all in all.
select u.memory_id, u.made_by, u.used, u.ignored, u.helpful, u.harmful
  from unnest($2::uuid[]) as w (id)
 cross join lateral (select x.memory_id, x.made_by, sum(x.used)::int as used, sum(x.ignored)::int as ignored,
                            sum(x.helpful)::int as helpful, sum(x.harmful)::int as harmful
                       from memory_uses x where x.project_id = $1 and x.memory_id = w.id
                      group by x.memory_id, x.made_by) u
 order by u.memory_id, u.made_by;

-- name: note_usage
-- Memories were used, and are worth what is said of them: of no version and no change.
update memories m
   set usage_hits = m.usage_hits + g.hits, last_used = greatest(m.last_used, g.at), feedback = coalesce(g.value, m.feedback)
  from unnest($2::uuid[], $3::bigint[], $4::timestamptz[], $5::real[]) as g (id, hits, at, value)
 where m.project_id = $1 and m.id = any($2::uuid[]) and m.id = g.id;

-- name: read_settled
-- How often the project was settled.
select settled from usage_marks where project_id = $1;

-- name: hold_considered
-- Keep recommendations of this project alone, if they know more than those that are kept.
select considered from usage_marks where project_id = $1 and considered < $2 for update skip locked;

-- name: read_uses
-- How memories were used by agents since $2, newest first, at most $3.
select memory_id, made_by, agent_id, scheduled, used, helpful, harmful, last_at
  from memory_uses where project_id = $1 and last_at >= $2 order by last_at desc limit $3;

-- name: drop_recommendations
-- The recommendations of a project make room for newer ones.
delete from recommendations where project_id = $1;

-- name: insert_recommendations
-- Recommend memories.
insert into recommendations (project_id, agent_id, made_by, memory_id, score, because)
select $1, g.agent_id, g.made_by, g.memory_id, g.score, g.because::text[]
  from unnest($2::text[], $3::text[], $4::uuid[], $5::real[], $6::text[])
    as g (agent_id, made_by, memory_id, score, because);

-- name: mark_recommended
-- The recommendations know what was settled up to $2.
update usage_marks set considered = $2, computed_at = now() where project_id = $1;

-- name: read_recommendations
-- What is recommended to an agent and the caller may read, best first, and when it was computed.
select c.computed_at, r.memory_id, r.label, r.tags, r.score, r.because
  from (select $1::text as project_id) p
  left join lateral (select x.computed_at from usage_marks x where x.project_id = p.project_id) c on true
  left join lateral (
    select * from (
      select distinct on (x.memory_id) x.memory_id, m.label, m.tags, x.score, x.because
        from recommendations x
       cross join lateral (select y.label, y.tags from memories y
                            where y.project_id = $1 and y.id = x.memory_id
                              and y.lifecycle not in ('ARCHIVED', 'EXPIRED') limit 1) m
       where x.project_id = $1 and x.agent_id = $2
       order by x.memory_id, x.score desc, x.made_by) d
     order by d.score desc, d.memory_id limit $3) r on true
 order by r.score desc, r.memory_id;
