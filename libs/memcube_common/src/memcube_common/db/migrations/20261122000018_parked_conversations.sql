-- Conversations that were set aside are looked after by the operator, like insights and messages of the bus.

-- migrate:up

grant select (project_id, id, agent_id, messages, state, reason, accepted_at), update (state, reason)
  on memcube.conversations to memcube_operator;

create policy operator_select on memcube.conversations for select to memcube_operator
  using (current_setting('app.principal', true) = 'operator');
create policy operator_update on memcube.conversations for update to memcube_operator
  using (current_setting('app.principal', true) = 'operator')
  with check (current_setting('app.principal', true) = 'operator');

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
