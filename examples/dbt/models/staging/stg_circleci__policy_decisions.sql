{{ config(enabled=var('circleci_using_policy_decisions', false)) }}

with latest as (
{{ circleci.latest('policy_decisions', key=['organization_id', 'id'], columns={
    'organization_id': 'text',
    'id': 'text',
    'created_at': 'timestamp',
    'decision': 'json',
    'metadata': 'json',
    'policies': 'json',
    'time_taken_ms': 'bigint',
}) }}
)

select
    organization_id,
    id,
    created_at,
    decision,
    metadata,
    policies,
    time_taken_ms
from latest
