{{ config(enabled=var('circleci_using_insights_job_days', false)) }}

with latest as (
{{ circleci.latest('insights_job_days', key=['_project_slug', '_workflow_name', 'name', 'timestamp'], columns={
    '_project_slug': 'text',
    '_workflow_name': 'text',
    'name': 'text',
    'timestamp': 'timestamp',
    'min_started_at': 'timestamp',
    'max_ended_at': 'timestamp',
    'metrics': 'json',
}) }}
)

select
    _project_slug as project_slug,
    _workflow_name as workflow_name,
    name,
    {{ circleci.column('timestamp') }} as measured_at,
    min_started_at,
    max_ended_at,
    metrics
from latest
