{{ config(enabled=var('circleci_using_insights_tests', false)) }}

with latest as (
{{ circleci.latest('insights_tests', key=['_project_slug', '_workflow_name', 'job_name', 'classname', 'test_name'], columns={
    '_project_slug': 'text',
    '_workflow_name': 'text',
    'job_name': 'text',
    'classname': 'text',
    'test_name': 'text',
    'file': 'text',
    'source': 'text',
    'total_runs': 'bigint',
    'failed_runs': 'bigint',
    'p95_duration': 'double',
    'flaky': 'boolean',
}) }}
)

select
    _project_slug as project_slug,
    _workflow_name as workflow_name,
    job_name,
    classname,
    test_name,
    file,
    source,
    total_runs,
    failed_runs,
    p95_duration,
    flaky
from latest
