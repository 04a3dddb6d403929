{{ config(enabled=var('circleci_using_context_restrictions', false)) }}

with latest as (
{{ circleci.latest('context_restrictions', key=['context_id', 'id'], columns={
    'context_id': 'text',
    'id': 'text',
    'organization_id': 'text',
    'name': 'text',
    'restriction_type': 'text',
    'restriction_value': 'text',
    'project_id': 'text',
}) }}
)

select
    context_id,
    id,
    organization_id,
    name,
    restriction_type,
    restriction_value,
    project_id
from latest
