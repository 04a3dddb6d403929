with incidents as (
    select
        deployment_id,
        count(*) as incidents,
        sum(recovery_seconds) as recovery_seconds,
        count(recovery_seconds) as recoveries
    from {{ ref('int_circleci__incidents') }}
    where deployment_id is not null
    group by deployment_id
),

deployments as (
    select
        deployments.*,
        {{ circleci.week('deployments.deployed_at') }} as deployed_week,
        incidents.incidents,
        incidents.recovery_seconds,
        incidents.recoveries
    from {{ ref('circleci__deployments') }} as deployments
    left join incidents on deployments.deployment_id = incidents.deployment_id
),

known as (
    select
        max({{ circleci.week('created_at') }}) as last_week,
        (select count(*) from {{ ref('int_circleci__incidents') }}) as incidents
    from {{ ref('stg_circleci__pipelines') }}
),

-- From a target's first deployment to the last week of which anything is known, also those without a deployment.
spans as (
    select
        project_slug,
        deployable,
        environment,
        min(project) as project,
        min(deployed_week) as first_week,
        max(deployed_week) as last_week
    from deployments
    group by project_slug, deployable, environment
),

numbers as (
{{ circleci.numbers() }}
),

weeks as (
    select
        spans.project_slug,
        spans.deployable,
        spans.environment,
        spans.project,
        known.incidents as known_incidents,
        {{ circleci.plus_days('spans.first_week', '(7 * numbers.number)') }} as week
    from spans
    cross join known
    cross join numbers
    where
        {{ circleci.plus_days('spans.first_week', '(7 * numbers.number)') }}
        <= case when spans.last_week > known.last_week then spans.last_week else known.last_week end
)

select
    weeks.project_slug,
    min(weeks.project) as project,
    weeks.deployable,
    weeks.environment,
    weeks.week,
    count(case when deployments.result = 'success' then 1 end) as deployments,
    count(case when deployments.result = 'failed' then 1 end) as failed_deployments,
    {{ circleci.share("count(case when deployments.result = 'success' then 1 end)", 7) }} as deployments_per_day,
    {{ circleci.percentile('deployments.lead_time_seconds', 0.5) }} as p50_lead_time_seconds,
    {{ circleci.share(
        "count(case when deployments.result = 'failed' then 1 end)", 'count(deployments.result)'
    ) }} as failed_deployment_share,
    count(case when deployments.begins_outage then 1 end) as outages,
    avg(deployments.outage_seconds) as mean_outage_seconds,
    case
        when min(weeks.known_incidents) > 0
            then {{ circleci.share(
                "count(case when deployments.incidents > 0 then 1 end)",
                "count(case when deployments.result = 'success' or deployments.incidents > 0 then 1 end)",
            ) }}
    end as change_failure_rate,
    {{ circleci.share('sum(deployments.recovery_seconds)', 'sum(deployments.recoveries)') }}
        as mean_time_to_restore_seconds
from weeks
left join deployments
    on
        weeks.project_slug = deployments.project_slug
        and weeks.deployable = deployments.deployable
        and weeks.environment = deployments.environment
        and weeks.week = deployments.deployed_week
group by weeks.project_slug, weeks.deployable, weeks.environment, weeks.week
