with runs as (
    select
        *,
        {{ circleci.day('created_at') }} as run_day,
        -- The next success of the same workflow on the same branch.
        min(case when result = 'success' then stopped_at end) over (
            partition by project_slug, workflow_name, coalesce(branch, '')
            order by created_at, workflow_id
            rows between 1 following and unbounded following
        ) as recovered_at
    from {{ ref('circleci__workflow_runs') }}
    where coalesce(result, '') <> 'not_run'
),

timed as (
    select
        *,
        case
            when result <> 'failed' then null
            when recovered_at < stopped_at then 0
            else {{ circleci.seconds('stopped_at', 'recovered_at') }}
        end as recovery_seconds
    from runs
),

days as (
    select
        project_slug,
        min(project) as project,
        workflow_name,
        run_day,
        count(*) as runs,
        count(result) as finished_runs,
        count(case when result = 'success' then 1 end) as successful_runs,
        count(case when result = 'failed' then 1 end) as failed_runs,
        count(case when result = 'canceled' then 1 end) as canceled_runs,
        count(case when is_rerun then 1 end) as reruns,
        {{ circleci.percentile('duration_seconds', 0.5) }} as p50_duration_seconds,
        {{ circleci.percentile('duration_seconds', 0.95) }} as p95_duration_seconds,
        avg(duration_seconds) as mean_duration_seconds,
        count(recovery_seconds) as recovered_failures,
        avg(recovery_seconds) as mean_time_to_recovery_seconds
    from timed
    group by project_slug, workflow_name, run_day
)

select
    days.project_slug,
    days.project,
    days.workflow_name,
    days.run_day,
    days.runs,
    days.finished_runs,
    days.successful_runs,
    days.failed_runs,
    days.canceled_runs,
    days.reruns,
    cast(days.successful_runs as double precision)
        / nullif(days.finished_runs - days.canceled_runs, 0) as success_rate,
    cast(sum(days.runs) over (
        partition by days.project_slug, days.workflow_name
        order by days.run_day
        range between interval '6 days' preceding and current row
    ) as double precision) / 7 as throughput_7_days,
    days.p50_duration_seconds,
    days.p95_duration_seconds,
    days.mean_duration_seconds,
    days.recovered_failures,
    days.mean_time_to_recovery_seconds
from days
