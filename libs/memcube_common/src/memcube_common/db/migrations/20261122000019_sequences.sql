-- migrate:up

-- As before, without a query of its own: planning one for each memory cost more than a tenth of writing it.
create or replace function memcube.sequence_of(p_tags text[]) returns text
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  tag text;
  first text;
begin
  foreach tag in array p_tags loop
    if tag ~ '^(session|thread|conversation|dialogue|chat|episode|part|meeting|call)[-:_/#]'
       and (first is null or tag < first) then
      first := tag;
    end if;
  end loop;
  return first;
end $$;

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
