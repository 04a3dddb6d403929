{{ config(enabled=var('circleci_using_usage', false)) }}

select
    cast(usage_date as date) as usage_day,
    organization_id,
    project_id,
    project_slug,
    project_name as project,
    workflow_name,
    job_name,
    vcs_branch as branch,
    person,
    resource_class,
    count(job_id) as job_runs,
    sum(job_run_seconds) as job_seconds,
    sum(compute_credits) as compute_credits,
    sum(dlc_credits) as dlc_credits,
    sum(storage_credits) as storage_credits,
    sum(network_credits) as network_credits,
    sum(user_credits) as user_credits,
    sum(total_credits) as total_credits,
    sum(coalesce(total_credits, 0) - coalesce(user_credits, 0)) as billed_credits,
    {{ circleci.price('sum(coalesce(total_credits, 0) - coalesce(user_credits, 0))') }} as cost
from {{ ref('int_circleci__usage') }}
group by
    cast(usage_date as date), organization_id, project_id, project_slug, project_name, workflow_name, job_name,
    vcs_branch, person, resource_class
