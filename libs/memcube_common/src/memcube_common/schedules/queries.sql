-- name: insert_schedule
-- Record a schedule, before it is told.
insert into schedules (project_id, id, agent_id, task_id, made_by, made_at, asked, weights, token_budget, tokens_used,
                       generation, chosen, weighed)
values ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb, $9, $10, $11, $12::uuid[], $13);

-- name: read_schedule
-- A schedule with everything that was weighed.
select s.id, s.agent_id, s.task_id, s.made_by, s.made_at, s.asked, s.weights, s.token_budget, s.tokens_used, s.chosen,
       s.weighed, e.name as embedding_model
  from schedules s
  left join lateral (select m.name from embedding_models m where m.generation = s.generation limit 1) e on true
 where s.project_id = $1 and s.id = $2 and ($3::text is null or s.made_by = $3);

-- name: list_schedules
-- Schedules below $8, newest first, by whom ($2), for which agent and task they were made, and when; without what was
-- weighed.
select s.id, s.agent_id, s.task_id, s.made_by, s.made_at, s.asked, s.weights, s.token_budget, s.tokens_used, s.chosen,
       null::bytea as weighed, e.name as embedding_model
  from schedules s
  left join lateral (select m.name from embedding_models m where m.generation = s.generation limit 1) e on true
 where s.project_id = $1 and ($2::text is null or s.made_by = $2) and ($3::text is null or s.agent_id = $3)
   and ($4::text is null or s.task_id = $4) and ($5::timestamptz is null or s.made_at < $5)
   and ($6::timestamptz is null or s.made_at > $6) and ($8::uuid is null or s.id < $8)
 order by s.id desc limit $7;

-- name: forget_schedules
-- Forget schedules of more than $1 days, in whichever project; how many, at most $2.
select forget_schedules($1, $2);
