{{ config(enabled=var('circleci_using_insights_workflow_runs', false)) }}

with latest as (
{{ circleci.latest('insights_workflow_runs', key=['id'], columns={
    'id': 'text',
    '_project_slug': 'text',
    '_workflow_name': 'text',
    'branch': 'text',
    'status': 'text',
    'created_at': 'timestamp',
    'stopped_at': 'timestamp',
    'duration': 'bigint',
    'credits_used': 'bigint',
    'is_approval': 'boolean',
}) }}
)

select
    id,
    _project_slug as project_slug,
    _workflow_name as workflow_name,
    branch,
    status,
    created_at,
    stopped_at,
    duration,
    credits_used,
    is_approval
from latest
