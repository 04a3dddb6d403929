with latest as (
{{ circleci.latest('deploy', key=['id', 'organization_id'], then_by=['updated_at'], columns={
    'id': 'text',
    'organization_id': 'text',
    'name': 'text',
    'description': 'text',
    'labels': 'json',
    'created_at': 'timestamp',
    'updated_at': 'timestamp',
}) }}
)

select
    id,
    organization_id,
    name,
    description,
    labels,
    created_at,
    updated_at
from latest
