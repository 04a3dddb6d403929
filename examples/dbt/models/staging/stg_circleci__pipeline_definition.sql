with latest as (
{{ circleci.latest('pipeline_definition', key=['id', 'project_id', 'organization_id'], columns={
    'id': 'text',
    'project_id': 'text',
    'organization_id': 'text',
    'name': 'text',
    'description': 'text',
    'created_at': 'timestamp',
    'config_source': 'json',
    'checkout_source': 'json',
}) }}
)

select
    id,
    project_id,
    organization_id,
    name,
    description,
    created_at,
    config_source,
    checkout_source
from latest
