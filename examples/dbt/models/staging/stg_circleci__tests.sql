{{ config(enabled=var('circleci_using_tests', false)) }}

with latest as (
{{ circleci.latest('tests', key=['_job_id', '_index'], columns={
    '_job_id': 'text',
    '_index': 'bigint',
    '_pipeline_id': 'text',
    'project_slug': 'text',
    'job_number': 'bigint',
    'name': 'text',
    'classname': 'text',
    'file': 'text',
    'result': 'text',
    'run_time': 'double',
    'message': 'text',
    'source': 'text',
    'source_type': 'text',
}) }}
)

select
    _job_id as job_id,
    _index as test_index,
    _pipeline_id as pipeline_id,
    project_slug,
    job_number,
    name,
    classname,
    file,
    result,
    run_time,
    message,
    source,
    source_type
from latest
