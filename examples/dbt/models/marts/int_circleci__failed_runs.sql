-- What failed or was canceled: jobs that were run, workflows that failed without a failed job of their own, and pipelines
-- whose config was wrong.
with jobs as (
    select
        *,
        min(case when result = 'success' then started_at end) over (
            partition by project_slug, workflow_name, job_name, revision
            order by started_at, job_id
            rows between 1 following and unbounded following
        ) as passed_at
    from {{ ref('circleci__job_runs') }}
    where not is_approval and started_at is not null
),

failed_jobs as (
    select
        workflow_id,
        count(*) as jobs
    from {{ ref('circleci__job_runs') }}
    where result in ('failed', 'canceled')
    group by workflow_id
)

select
    jobs.job_id as failure_id,
    'job' as kind,
    jobs.job_id,
    jobs.job_number,
    jobs.job_name,
    jobs.workflow_id,
    jobs.workflow_name,
    jobs.pipeline_id,
    jobs.project_slug,
    jobs.project,
    jobs.branch,
    jobs.is_default_branch,
    jobs.revision,
    jobs.person,
    jobs.rerun_number,
    jobs.status,
    jobs.result,
    coalesce(jobs.stopped_at, jobs.started_at) as failed_at,
    coalesce(
        jobs.result = 'failed'
        and jobs.revision is not null
        and jobs.passed_at <= {{ circleci.plus_hours('jobs.started_at', 24 * var('circleci_flaky_days', 14)) }},
        false
    ) as has_passed_later,
    jobs.duration_seconds,
    jobs.credits
from jobs
where jobs.result in ('failed', 'canceled')
union all
select
    runs.workflow_id,
    'workflow',
    cast(null as {{ circleci.type('text') }}),
    cast(null as {{ circleci.type('bigint') }}),
    cast(null as {{ circleci.type('text') }}),
    runs.workflow_id,
    runs.workflow_name,
    runs.pipeline_id,
    runs.project_slug,
    runs.project,
    runs.branch,
    runs.is_default_branch,
    runs.revision,
    runs.person,
    runs.rerun_number,
    runs.status,
    runs.result,
    coalesce(runs.stopped_at, runs.created_at),
    false,
    cast(null as {{ circleci.type('double') }}),
    cast(null as {{ circleci.type('double') }})
from {{ ref('circleci__workflow_runs') }} as runs
left join failed_jobs on runs.workflow_id = failed_jobs.workflow_id
where runs.result = 'failed' and failed_jobs.workflow_id is null
union all
select
    pipelines.pipeline_id,
    'pipeline',
    cast(null as {{ circleci.type('text') }}),
    cast(null as {{ circleci.type('bigint') }}),
    cast(null as {{ circleci.type('text') }}),
    cast(null as {{ circleci.type('text') }}),
    cast(null as {{ circleci.type('text') }}),
    pipelines.pipeline_id,
    pipelines.project_slug,
    projects.project,
    pipelines.branch,
    coalesce(pipelines.branch = projects.default_branch, false),
    pipelines.revision,
    nullif(pipelines.actor_login, ''),
    0,
    pipelines.state,
    'failed',
    pipelines.created_at,
    false,
    cast(null as {{ circleci.type('double') }}),
    cast(null as {{ circleci.type('double') }})
from {{ ref('stg_circleci__pipelines') }} as pipelines
left join {{ ref('int_circleci__projects') }} as projects on pipelines.project_slug = projects.project_slug
where pipelines.state = 'errored'
