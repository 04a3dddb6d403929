with ranked as (
    select
        *,
        row_number() over (
            partition by pipeline_id, workflow_name
            order by created_at desc, workflow_id desc
        ) as newest
    from {{ ref('circleci__workflow_runs') }}
),

workflows as (
    select
        pipeline_id,
        count(*) as workflow_runs,
        count(case when is_rerun then 1 end) as reruns,
        count(case when newest = 1 and result is null then 1 end) as unfinished,
        count(case when newest = 1 and result = 'failed' then 1 end) as failed,
        count(case when newest = 1 and result = 'canceled' then 1 end) as canceled,
        count(case when newest = 1 and result = 'success' then 1 end) as successful,
        count(case when not is_rerun and result = 'failed' then 1 end) as failed_at_first,
        count(case when not is_rerun and result is null then 1 end) as unfinished_at_first,
        max(case when not is_rerun then stopped_at end) as first_stopped_at,
        max(stopped_at) as stopped_at,
        sum(job_seconds) as job_seconds,
        sum(queue_seconds) as queue_seconds,
        sum(credits) as credits
    from ranked
    group by pipeline_id
),

jobs as (
    select
        pipeline_id,
        min(started_at) as started_at
    from {{ ref('circleci__job_runs') }}
    group by pipeline_id
)

select
    pipelines.pipeline_id,
    pipelines.number as pipeline_number,
    pipelines.project_slug,
    projects.project,
    pipelines.branch,
    pipelines.git_tag,
    pipelines.revision,
    pipelines.commit_subject,
    pipelines.review_id,
    pipelines.trigger_type,
    nullif(pipelines.actor_login, '') as person,
    pipelines.state,
    case
        when pipelines.state = 'errored' then 'failed'
        when workflows.pipeline_id is null then null
        when workflows.unfinished > 0 then null
        when workflows.failed > 0 then 'failed'
        when workflows.canceled > 0 then 'canceled'
        when workflows.successful > 0 then 'success'
        else 'not_run'
    end as result,
    coalesce(workflows.workflow_runs, 0) as workflow_runs,
    coalesce(workflows.reruns, 0) as reruns,
    coalesce(workflows.failed_at_first > 0, false) as has_failed_at_first,
    pipelines.created_at,
    jobs.started_at,
    case when workflows.unfinished = 0 then workflows.stopped_at end as stopped_at,
    case
        when workflows.unfinished_at_first = 0
            then {{ circleci.seconds('pipelines.created_at', 'workflows.first_stopped_at') }}
    end as duration_seconds,
    case
        when workflows.unfinished = 0 then {{ circleci.seconds('pipelines.created_at', 'workflows.stopped_at') }}
    end as seconds_with_reruns,
    workflows.queue_seconds,
    workflows.job_seconds,
    workflows.credits
from {{ ref('stg_circleci__pipelines') }} as pipelines
left join {{ ref('int_circleci__projects') }} as projects on pipelines.project_slug = projects.project_slug
left join workflows on pipelines.pipeline_id = workflows.pipeline_id
left join jobs on pipelines.pipeline_id = jobs.pipeline_id
