{{ config(enabled=var('circleci_using_artifacts', false)) }}

with latest as (
{{ circleci.latest('artifacts', key=['_job_id', 'node_index', 'path'], columns={
    '_job_id': 'text',
    'node_index': 'bigint',
    'path': 'text',
    '_pipeline_id': 'text',
    'project_slug': 'text',
    'job_number': 'bigint',
    'url': 'text',
}) }}
)

select
    _job_id as job_id,
    node_index,
    path,
    _pipeline_id as pipeline_id,
    project_slug,
    job_number,
    url
from latest
