{{ config(enabled=var('circleci_using_deploy_versions', false)) }}

with latest as (
{{ circleci.latest('deploy_versions', key=['component_id', 'environment_id', 'namespace', 'name'], then_by=['last_deployed_at'], columns={
    'component_id': 'text',
    'environment_id': 'text',
    'namespace': 'text',
    'name': 'text',
    'organization_id': 'text',
    'is_live': 'boolean',
    'pipeline_id': 'text',
    'workflow_id': 'text',
    'job_id': 'text',
    'job_number': 'bigint',
    'last_deployed_at': 'timestamp',
}) }}
)

select
    component_id,
    environment_id,
    namespace,
    name,
    organization_id,
    is_live,
    pipeline_id,
    workflow_id,
    job_id,
    job_number,
    last_deployed_at
from latest
