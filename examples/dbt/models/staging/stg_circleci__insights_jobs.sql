{{ config(enabled=var('circleci_using_insights_jobs', false)) }}

with latest as (
{{ circleci.latest('insights_jobs', key=['_project_slug', '_workflow_name', 'name'], columns={
    '_project_slug': 'text',
    '_workflow_name': 'text',
    'name': 'text',
    'window_start': 'timestamp',
    'window_end': 'timestamp',
    'metrics': 'json',
}) }}
)

select
    _project_slug as project_slug,
    _workflow_name as workflow_name,
    name,
    window_start,
    window_end,
    metrics,
    cast({{ circleci.json_text('metrics', ['total_runs']) }} as {{ circleci.type('double') }}) as total_runs,
    cast({{ circleci.json_text('metrics', ['successful_runs']) }} as {{ circleci.type('double') }}) as successful_runs,
    cast({{ circleci.json_text('metrics', ['failed_runs']) }} as {{ circleci.type('double') }}) as failed_runs,
    cast({{ circleci.json_text('metrics', ['success_rate']) }} as {{ circleci.type('double') }}) as success_rate,
    cast({{ circleci.json_text('metrics', ['throughput']) }} as {{ circleci.type('double') }}) as throughput,
    cast({{ circleci.json_text('metrics', ['total_credits_used']) }} as {{ circleci.type('double') }}) as total_credits_used,
    cast({{ circleci.json_text('metrics', ['duration_metrics', 'median']) }} as {{ circleci.type('double') }}) as median_duration,
    cast({{ circleci.json_text('metrics', ['duration_metrics', 'p95']) }} as {{ circleci.type('double') }}) as p95_duration
from latest
