with waits as (
    select
        runs.*,
        people.login as approver
    from {{ ref('circleci__job_runs') }} as runs
    left join {{ ref('int_circleci__people') }} as people on runs.approved_by = people.user_id
    where runs.is_approval
)

select
    job_id,
    job_name as approval,
    workflow_id,
    workflow_name,
    pipeline_id,
    project_slug,
    project,
    branch,
    person as waits_for_it,
    coalesce(approver, approved_by) as approved_by,
    case
        when result = 'success' then 'approved'
        when result is not null then 'never approved'
        when status = 'on_hold' then 'waiting'
        else 'not reached'
    end as decision,
    started_at as requested_at,
    case when result = 'success' then stopped_at end as approved_at,
    case when result = 'success' then {{ circleci.seconds('started_at', 'stopped_at') }} end as wait_seconds
from waits
