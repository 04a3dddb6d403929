with latest as (
{{ circleci.latest('schedule', key=['id', 'project_slug'], then_by=['updated_at'], columns={
    'id': 'text',
    'project_slug': 'text',
    'name': 'text',
    'description': 'text',
    'created_at': 'timestamp',
    'updated_at': 'timestamp',
    'timetable': 'json',
    'parameters': 'json',
    'actor': 'json',
}) }}
)

select
    id,
    project_slug,
    name,
    description,
    created_at,
    updated_at,
    timetable,
    parameters,
    actor
from latest
