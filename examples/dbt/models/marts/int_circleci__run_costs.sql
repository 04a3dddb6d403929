{{ config(
    enabled=var('circleci_using_usage', false) or var('circleci_using_insights_workflow_runs', false),
    materialized=circleci.growing(),
    on_schema_change='fail',
    unique_key='cost_id',
) }}
{%- set all = [
    'cost_day', 'project_slug', 'project', 'pipeline_id', 'workflow_id', 'job_id', 'pull_request', 'branch', 'author', 'team',
    'is_rerun', 'result', 'seconds', 'credits', 'user_credits',
] %}

-- What was paid for what: a row each of usage, or of insights' workflow runs where usage is not loaded.
with teams as (
    -- A login counts once, also when the list has it twice.
    select
        lower(cast(login as {{ circleci.type('text') }})) as login,
        min(cast(team as {{ circleci.type('text') }})) as team
    from {{ ref('circleci_teams') }}
    group by lower(cast(login as {{ circleci.type('text') }}))
),

paid as (
{% if var('circleci_using_usage', false) %}
    select
        usage.organization_id || ' ' || cast(usage.usage_date as {{ circleci.type('text') }}) || ' ' || usage.usage_id
            as cost_id,
        cast(usage.usage_date as date) as cost_day,
        usage.project_slug,
        usage.project_name as project,
        usage.pipeline_id,
        coalesce(usage.workflow_id, jobs.workflow_id) as workflow_id,
        usage.job_id,
        usage.vcs_branch as branch,
        usage.person,
        coalesce(jobs.result, {{ circleci.result('usage.job_build_status') }}) as result,
        usage.job_run_seconds as seconds,
        coalesce(usage.total_credits, 0) - coalesce(usage.user_credits, 0) as credits,
        coalesce(usage.user_credits, 0) as user_credits
    from {{ ref('int_circleci__usage') }} as usage
    left join {{ ref('circleci__job_runs') }} as jobs on usage.job_id = jobs.job_id
{% else %}
    select
        insights.id as cost_id,
        cast(insights.created_at as date) as cost_day,
        insights.project_slug,
        projects.project,
        runs.pipeline_id,
        insights.id as workflow_id,
        cast(null as {{ circleci.type('text') }}) as job_id,
        insights.branch,
        runs.person,
        {{ circleci.result('insights.status') }} as result,
        cast(insights.duration as {{ circleci.type('double') }}) as seconds,
        cast(coalesce(insights.credits_used, 0) as {{ circleci.type('double') }}) as credits,
        cast(0 as {{ circleci.type('double') }}) as user_credits
    from {{ ref('stg_circleci__insights_workflow_runs') }} as insights
    left join {{ ref('circleci__workflow_runs') }} as runs on insights.id = runs.workflow_id
    left join {{ ref('int_circleci__projects') }} as projects on insights.project_slug = projects.project_slug
{% endif %}
),

costed as (
    select
        paid.cost_id,
        paid.cost_day,
        paid.project_slug,
        paid.project,
        paid.pipeline_id,
        paid.workflow_id,
        paid.job_id,
        changes.pull_request,
        coalesce(changes.branch, paid.branch) as branch,
        coalesce(changes.author, paid.person) as author,
        teams.team,
        coalesce(runs.rerun_number, 0) > 0 as is_rerun,
        paid.result,
        paid.seconds,
        paid.credits,
        paid.user_credits
    from paid
    left join {{ ref('int_circleci__changes') }} as changes on paid.pipeline_id = changes.pipeline_id
    left join {{ ref('int_circleci__numbered_workflows') }} as runs on paid.workflow_id = runs.workflow_id
    left join teams on lower(coalesce(changes.author, paid.person)) = teams.login
)

select costed.*
from costed
{%- if is_incremental() %}
left join {{ this }} as built on costed.cost_id = built.cost_id
where built.cost_id is null or {{ circleci.differs('costed', 'built', all) }}
{%- endif %}
