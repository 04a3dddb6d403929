{%- set paid = var('circleci_using_usage', false) or var('circleci_using_insights_workflow_runs', false) -%}
with runs as (
    select
        *,
        min(case when rerun_number = 0 and result = 'failed' then stopped_at end) over (
            partition by pipeline_id, workflow_name, coalesce(workflow_tag, '')
        ) as failed_at,
        min(case when rerun_number > 0 and result = 'success' then rerun_number end) over (
            partition by pipeline_id, workflow_name, coalesce(workflow_tag, '')
        ) as green_rerun
    from {{ ref('circleci__workflow_runs') }}
),

costs as (
{%- if paid %}
    select
        workflow_id,
        sum(credits) as credits
    from {{ ref('int_circleci__run_costs') }}
    where is_rerun
    group by workflow_id
{%- else %}
    select
        cast(null as {{ circleci.type('text') }}) as workflow_id,
        cast(null as {{ circleci.type('double') }}) as credits
    from (select 1 as nothing) as nothing
    where 1 = 0
{%- endif %}
),

reruns as (
    select
        runs.*,
        costs.credits as paid,
        coalesce(runs.failed_at is not null and runs.rerun_number = runs.green_rerun, false) as turned_green
    from runs
    left join costs on runs.workflow_id = costs.workflow_id
    where runs.is_rerun
)

select
    project_slug,
    min(project) as project,
    workflow_name,
    {{ circleci.week('created_at') }} as week,
    count(*) as reruns,
    count(case when is_rerun_from_failed then 1 end) as reruns_from_failed,
    count(case when is_auto_rerun then 1 end) as automatic_reruns,
    count(case when turned_green then 1 end) as turned_green,
    {{ circleci.share('count(case when turned_green then 1 end)', 'count(*)') }} as turned_green_share,
    {{ circleci.percentile(
        'case when turned_green then ' ~ circleci.seconds('failed_at', 'stopped_at') ~ ' end', 0.5
    ) }} as p50_seconds_until_green,
    sum(job_seconds) / 60 as minutes,
    sum(paid) as credits,
    {{ circleci.price('sum(paid)') }} as cost,
    sum(case when turned_green then paid end) as turned_green_credits
from reruns
group by project_slug, workflow_name, {{ circleci.week('created_at') }}
