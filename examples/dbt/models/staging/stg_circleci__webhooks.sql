{{ config(enabled=var('circleci_using_webhooks', false)) }}

with latest as (
{{ circleci.latest('webhooks', key=['id'], columns={
    'id': 'text',
    'project_id': 'text',
    'name': 'text',
    'url': 'text',
    'verify_tls': 'boolean',
    'events': 'json',
    'scope': 'json',
    'created_at': 'timestamp',
    'updated_at': 'timestamp',
}) }}
)

select
    id,
    project_id,
    name,
    url,
    verify_tls,
    events,
    scope,
    created_at,
    updated_at
from latest
