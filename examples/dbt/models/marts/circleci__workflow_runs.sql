with jobs as (
    select
        listed.workflow_id,
        count(*) as jobs_listed,
        count(case when listed.listing > 1 then 1 end) as jobs_kept,
        count(case when listed.type = 'approval' then 1 end) as approvals
    from {{ ref('int_circleci__listed_jobs') }} as listed
    group by listed.workflow_id
),

own_jobs as (
    select
        workflow_id,
        sum(duration_seconds) as job_seconds,
        sum(queue_seconds) as queue_seconds,
        sum(credits) as credits,
        count(case when result = 'failed' then 1 end) as failed_jobs,
        count(case when status in ('infrastructure_fail', 'terminated-unknown') then 1 end) as infrastructure_failures
    from {{ ref('circleci__job_runs') }}
    group by workflow_id
),

runs as (
    select
        *,
        {{ circleci.result('status') }} as result
    from {{ ref('int_circleci__numbered_workflows') }}
)

select
    runs.workflow_id,
    runs.name as workflow_name,
    runs.{{ circleci.column('tag') }} as workflow_tag,
    runs.pipeline_id,
    runs.pipeline_number,
    runs.project_slug,
    projects.project,
    pipelines.branch,
    coalesce(pipelines.branch = projects.default_branch, false) as is_default_branch,
    pipelines.git_tag,
    pipelines.revision,
    pipelines.commit_subject,
    pipelines.trigger_type,
    runs.person,
    runs.rerun_number,
    runs.rerun_number > 0 as is_rerun,
    runs.rerun_number > 0 and coalesce(jobs.jobs_kept, 0) > 0 as is_rerun_from_failed,
    coalesce(runs.auto_rerun_number, 0) > 0 as is_auto_rerun,
    runs.status,
    runs.result,
    coalesce(
        runs.result = 'failed' and own_jobs.failed_jobs > 0 and own_jobs.failed_jobs = own_jobs.infrastructure_failures,
        false
    ) as is_infrastructure_failure,
    runs.created_at,
    runs.stopped_at,
    case
        when runs.result is null or runs.result = 'not_run' then null
        else {{ circleci.seconds('runs.created_at', 'runs.stopped_at') }}
    end as duration_seconds,
    own_jobs.queue_seconds,
    coalesce(jobs.jobs_listed, 0) - coalesce(jobs.jobs_kept, 0) - coalesce(jobs.approvals, 0) as jobs,
    coalesce(jobs.jobs_kept, 0) as jobs_kept,
    coalesce(jobs.approvals, 0) as approvals,
    own_jobs.job_seconds,
    own_jobs.credits
from runs
left join {{ ref('stg_circleci__pipelines') }} as pipelines on runs.pipeline_id = pipelines.pipeline_id
left join {{ ref('int_circleci__projects') }} as projects on runs.project_slug = projects.project_slug
left join jobs on runs.workflow_id = jobs.workflow_id
left join own_jobs on runs.workflow_id = own_jobs.workflow_id
