{{ config(enabled=var('circleci_using_insights_projects', false)) }}

with latest as (
{{ circleci.latest('insights_projects', key=['organization_id', 'project_name'], columns={
    'organization_id': 'text',
    'project_name': 'text',
    'metrics': 'json',
    'trends': 'json',
}) }}
)

select
    organization_id,
    project_name,
    metrics,
    trends
from latest
