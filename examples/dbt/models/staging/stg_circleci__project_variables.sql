{{ config(enabled=var('circleci_using_project_variables', false)) }}

with latest as (
{{ circleci.latest('project_variables', key=['_project_slug', 'name'], columns={
    '_project_slug': 'text',
    'name': 'text',
    'created_at': 'timestamp',
}) }}
)

select
    _project_slug as project_slug,
    name,
    created_at
from latest
