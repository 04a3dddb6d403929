with latest as (
{{ circleci.latest('project', key=['id', 'organization_id'], columns={
    'id': 'text',
    'organization_id': 'text',
    'name': 'text',
    'slug': 'text',
    'last_build_finished_at': 'timestamp',
    'organization_name': 'text',
    'organization_slug': 'text',
    'vcs_info': 'json',
}) }}
)

select
    id as project_id,
    organization_id,
    name,
    slug,
    last_build_finished_at,
    organization_name,
    organization_slug,
    vcs_info,
    {{ circleci.json_text('vcs_info', ['default_branch']) }} as default_branch
from latest
