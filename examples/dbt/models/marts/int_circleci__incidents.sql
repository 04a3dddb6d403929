-- Incidents as the seed circleci_incidents tells them (or a seed or model of that name in your project), each with the
-- deployment that caused it: the one that it names, else the last successful one of its project before it began.
with told as (
    select
        cast(incident_id as {{ circleci.type('text') }}) as incident_id,
        cast(project_slug as {{ circleci.type('text') }}) as project_slug,
        cast(environment as {{ circleci.type('text') }}) as environment,
        cast(deployment_id as {{ circleci.type('text') }}) as deployment_id,
        cast(cast(started_at as {{ circleci.type('text') }}) as timestamp) as started_at,
        cast(cast(resolved_at as {{ circleci.type('text') }}) as timestamp) as resolved_at
    from {{ ref('circleci_incidents') }}
),

candidates as (
    select
        told.incident_id,
        told.started_at,
        told.resolved_at,
        deployments.deployment_id,
        row_number() over (
            partition by told.incident_id
            order by deployments.deployed_at desc, deployments.deployment_id
        ) as place
    from told
    left join {{ ref('circleci__deployments') }} as deployments
        on
            told.deployment_id = deployments.deployment_id
            or (
                told.deployment_id is null
                and told.project_slug = deployments.project_slug
                and coalesce(told.environment, deployments.environment) = deployments.environment
                and deployments.result = 'success'
                and deployments.deployed_at <= told.started_at
            )
)

select
    incident_id,
    deployment_id,
    started_at,
    resolved_at,
    {{ circleci.seconds('started_at', 'resolved_at') }} as recovery_seconds
from candidates
where place = 1
