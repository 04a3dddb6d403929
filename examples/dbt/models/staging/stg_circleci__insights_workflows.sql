{{ config(enabled=var('circleci_using_insights_workflows', false)) }}

with latest as (
{{ circleci.latest('insights_workflows', key=['_project_slug', 'name'], columns={
    '_project_slug': 'text',
    'name': 'text',
    'project_id': 'text',
    'window_start': 'timestamp',
    'window_end': 'timestamp',
    'metrics': 'json',
}) }}
)

select
    _project_slug as project_slug,
    name,
    project_id,
    window_start,
    window_end,
    metrics,
    cast({{ circleci.json_text('metrics', ['total_runs']) }} as double precision) as total_runs,
    cast({{ circleci.json_text('metrics', ['successful_runs']) }} as double precision) as successful_runs,
    cast({{ circleci.json_text('metrics', ['failed_runs']) }} as double precision) as failed_runs,
    cast({{ circleci.json_text('metrics', ['success_rate']) }} as double precision) as success_rate,
    cast({{ circleci.json_text('metrics', ['throughput']) }} as double precision) as throughput,
    cast({{ circleci.json_text('metrics', ['mttr']) }} as double precision) as mttr,
    cast({{ circleci.json_text('metrics', ['total_credits_used']) }} as double precision) as total_credits_used,
    cast({{ circleci.json_text('metrics', ['duration_metrics', 'median']) }} as double precision) as median_duration,
    cast({{ circleci.json_text('metrics', ['duration_metrics', 'p95']) }} as double precision) as p95_duration
from latest
