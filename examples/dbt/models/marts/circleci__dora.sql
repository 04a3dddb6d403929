with deployments as (
    select
        *,
        {{ circleci.week('deployed_at') }} as deployed_week
    from {{ ref('circleci__deployments') }}
),

-- From a target's first deployment to the last week of which anything is known, also those without a deployment.
spans as (
    select
        project_slug,
        deployable,
        environment,
        min(project) as project,
        min(deployed_week) as first_week,
        greatest(
            max(deployed_week),
            (select {{ circleci.week('max(created_at)') }} from {{ ref('stg_circleci__pipelines') }})
        ) as last_week
    from deployments
    group by project_slug, deployable, environment
),

weeks as (
    select
        project_slug,
        deployable,
        environment,
        project,
        {{ circleci.weeks('first_week', 'last_week') }} as week_start
    from spans
)

select
    weeks.project_slug,
    weeks.project,
    weeks.deployable,
    weeks.environment,
    cast(weeks.week_start as date) as week,
    count(case when deployments.result = 'success' then 1 end) as deployments,
    count(case when deployments.result = 'failed' then 1 end) as failed_deployments,
    cast(count(case when deployments.result = 'success' then 1 end) as double precision) / 7 as deployments_per_day,
    {{ circleci.percentile('deployments.lead_time_seconds', 0.5) }} as p50_lead_time_seconds,
    cast(count(case when deployments.result = 'failed' then 1 end) as double precision)
        / nullif(count(deployments.result), 0) as change_failure_rate,
    avg(deployments.time_to_restore_seconds) as mean_time_to_restore_seconds
from weeks
left join deployments
    on
        weeks.project_slug = deployments.project_slug
        and weeks.deployable = deployments.deployable
        and weeks.environment = deployments.environment
        and cast(weeks.week_start as date) = deployments.deployed_week
group by weeks.project_slug, weeks.project, weeks.deployable, weeks.environment, weeks.week_start
