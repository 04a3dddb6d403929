with latest as (
{{ circleci.latest('groups', key=['id', 'organization_id'], columns={
    'id': 'text',
    'organization_id': 'text',
    'name': 'text',
    'description': 'text',
}) }}
)

select
    id,
    organization_id,
    name,
    description
from latest
