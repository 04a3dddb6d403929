{{ config(enabled=var('circleci_using_insights_branches', false)) }}

with latest as (
{{ circleci.latest('insights_branches', key=['_project_slug', 'workflow_name', 'branch'], columns={
    '_project_slug': 'text',
    'workflow_name': 'text',
    'branch': 'text',
    'metrics': 'json',
    'trends': 'json',
}) }}
)

select
    _project_slug as project_slug,
    workflow_name,
    branch,
    metrics,
    trends
from latest
