{{ config(enabled=var('circleci_using_usage', false) or var('circleci_using_insights_workflow_runs', false)) }}

select
    project_slug,
    project,
    pull_request,
    branch,
    author,
    team,
    min(cost_day) as first_day,
    max(cost_day) as last_day,
    count(distinct pipeline_id) as pipelines,
    count(distinct workflow_id) as workflow_runs,
    count(job_id) as job_runs,
    sum(seconds) / 60 as minutes,
    sum(credits) as credits,
    {{ circleci.price('sum(credits)') }} as cost,
    sum(case when is_rerun then credits else 0 end) as rerun_credits,
    {{ circleci.price('sum(case when is_rerun then credits else 0 end)') }} as rerun_cost,
    sum(case when result = 'failed' then credits else 0 end) as failed_credits,
    {{ circleci.price("sum(case when result = 'failed' then credits else 0 end)") }} as failed_cost,
    sum(user_credits) as user_credits
from {{ ref('int_circleci__run_costs') }}
group by project_slug, project, pull_request, branch, author, team
