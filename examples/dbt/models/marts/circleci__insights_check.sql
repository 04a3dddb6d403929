{{ config(enabled=var('circleci_using_insights_workflows', false)) }}

with ours as (
    select
        insights.project_slug,
        insights.name as workflow_name,
        count(runs.workflow_id) as runs,
        count(case when runs.result = 'success' then 1 end) as successful_runs,
        count(case when runs.result = 'failed' then 1 end) as failed_runs,
        {{ circleci.share(
            "count(case when runs.result = 'success' then 1 end)",
            "count(case when runs.result in ('success', 'failed') then 1 end)",
        ) }} as success_rate,
        {{ circleci.percentile('runs.duration_seconds', 0.5) }} as p50_duration_seconds,
        {{ circleci.percentile('runs.duration_seconds', 0.95) }} as p95_duration_seconds
    from {{ ref('stg_circleci__insights_workflows') }} as insights
    left join {{ ref('circleci__workflow_runs') }} as runs
        on
            insights.project_slug = runs.project_slug
            and insights.name = runs.workflow_name
            and runs.created_at between insights.window_start and insights.window_end
            and runs.result <> 'not_run'
    group by insights.project_slug, insights.name
)

select
    ours.project_slug,
    ours.workflow_name,
    insights.window_start,
    insights.window_end,
    ours.runs,
    insights.total_runs as insights_runs,
    ours.successful_runs,
    insights.successful_runs as insights_successful_runs,
    ours.failed_runs,
    insights.failed_runs as insights_failed_runs,
    ours.success_rate,
    insights.success_rate as insights_success_rate,
    ours.p50_duration_seconds,
    insights.median_duration as insights_p50_duration_seconds,
    ours.p95_duration_seconds,
    insights.p95_duration as insights_p95_duration_seconds
from ours
inner join {{ ref('stg_circleci__insights_workflows') }} as insights
    on ours.project_slug = insights.project_slug and ours.workflow_name = insights.name
