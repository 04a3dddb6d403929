{{ config(enabled=var('circleci_using_flaky_tests', false)) }}

with latest as (
{{ circleci.latest('flaky_tests', key=['_project_slug', 'workflow_name', 'job_name', 'classname', 'test_name'], columns={
    '_project_slug': 'text',
    'workflow_name': 'text',
    'job_name': 'text',
    'classname': 'text',
    'test_name': 'text',
    'file': 'text',
    'source': 'text',
    'times_flaked': 'bigint',
    'time_wasted': 'bigint',
    'workflow_id': 'text',
    'workflow_created_at': 'timestamp',
    'pipeline_number': 'bigint',
    'job_number': 'bigint',
}) }}
)

select
    _project_slug as project_slug,
    workflow_name,
    job_name,
    classname,
    test_name,
    file,
    source,
    times_flaked,
    time_wasted,
    workflow_id,
    workflow_created_at,
    pipeline_number,
    job_number
from latest
