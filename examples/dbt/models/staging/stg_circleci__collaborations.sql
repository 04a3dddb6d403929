with latest as (
{{ circleci.latest('collaborations', key=['id'], columns={
    'id': 'text',
    'vcs_type': 'text',
    'name': 'text',
    'slug': 'text',
    'avatar_url': 'text',
}) }}
)

select
    id,
    vcs_type,
    name,
    slug,
    avatar_url
from latest
