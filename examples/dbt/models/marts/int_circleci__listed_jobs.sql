-- Jobs as each workflow lists them. A rerun "from failed" lists jobs of the run before again: listing 2 and above.
select
    jobs.*,
    workflows.name as workflow_name,
    workflows.created_at as workflow_created_at,
    workflows.stopped_at is not null as is_workflow_finished,
    row_number() over (
        partition by jobs.job_id
        order by coalesce(workflows.created_at, jobs.started_at), jobs.workflow_id
    ) as listing,
    count(*) over (partition by jobs.job_id) as listings,
    row_number() over (
        partition by jobs.job_id
        order by
            case when jobs.stopped_at is null then 1 else 0 end,
            coalesce(workflows.created_at, jobs.started_at) desc,
            jobs.workflow_id
    ) as state_rank
from {{ ref('stg_circleci__jobs') }} as jobs
left join {{ ref('stg_circleci__workflows') }} as workflows on jobs.workflow_id = workflows.workflow_id
