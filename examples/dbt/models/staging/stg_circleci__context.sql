with latest as (
{{ circleci.latest('context', key=['id', 'organization_id'], columns={
    'id': 'text',
    'organization_id': 'text',
    'name': 'text',
    'created_at': 'timestamp',
}) }}
)

select
    id,
    organization_id,
    name,
    created_at
from latest
