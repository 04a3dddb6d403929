{{ config(enabled=var('circleci_using_context_variables', false)) }}

with latest as (
{{ circleci.latest('context_variables', key=['context_id', 'variable'], columns={
    'context_id': 'text',
    'variable': 'text',
    'organization_id': 'text',
    'created_at': 'timestamp',
    'updated_at': 'timestamp',
}) }}
)

select
    context_id,
    variable,
    organization_id,
    created_at,
    updated_at
from latest
