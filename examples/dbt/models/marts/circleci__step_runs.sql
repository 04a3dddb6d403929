{{ config(enabled=var('circleci_using_steps', false)) }}

-- Parallel runs of a step count once, with the slowest of them.
with steps as (
    select
        job_id,
        step_number,
        min(coalesce(step_name, name)) as step_name,
        min(type) as step_type,
        count(*) as parallel_runs,
        min(start_time) as started_at,
        max(end_time) as stopped_at,
        max(run_time_millis) / cast(1000 as {{ circleci.type('double') }}) as seconds,
        min(run_time_millis) / cast(1000 as {{ circleci.type('double') }}) as fastest_seconds,
        max(case when background then 1 else 0 end) = 1 as is_background,
        max(case when coalesce(exit_code, 0) <> 0 or failed or status in ('failed', 'timedout') then 1 else 0 end) = 1
            as has_failed
    from {{ ref('stg_circleci__steps') }}
    group by job_id, step_number
)

select
    steps.job_id,
    steps.step_number,
    steps.step_name,
    steps.step_type,
    jobs.project_slug,
    jobs.project,
    jobs.workflow_name,
    jobs.job_name,
    jobs.pipeline_id,
    jobs.branch,
    jobs.is_default_branch,
    jobs.result as job_result,
    steps.parallel_runs,
    steps.started_at,
    steps.stopped_at,
    steps.seconds,
    steps.fastest_seconds,
    steps.is_background,
    steps.has_failed,
    jobs.duration_seconds as job_seconds
from steps
inner join {{ ref('circleci__job_runs') }} as jobs on steps.job_id = jobs.job_id
