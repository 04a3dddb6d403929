{{ config(enabled=var('circleci_using_deploy_components', false)) }}

with latest as (
{{ circleci.latest('deploy_components', key=['id', 'organization_id'], then_by=['updated_at'], columns={
    'id': 'text',
    'organization_id': 'text',
    'project_id': 'text',
    'name': 'text',
    'labels': 'json',
    'release_count': 'bigint',
    'created_at': 'timestamp',
    'updated_at': 'timestamp',
}) }}
)

select
    id,
    organization_id,
    project_id,
    name,
    labels,
    release_count,
    created_at,
    updated_at
from latest
