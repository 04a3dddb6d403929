{% if var('circleci_using_deploy_versions', false) and var('circleci_using_deploy_components', false) %}
with deployed as (
    select
        versions.component_id || '/' || versions.environment_id || '/' || coalesce(versions.namespace, '')
        || '/' || versions.name as deployment_id,
        components.project_id,
        components.name as deployable,
        coalesce(environments.name, versions.environment_id) as environment,
        versions.workflow_id,
        versions.pipeline_id,
        coalesce(jobs.result, workflows.result, 'success') as result,
        versions.last_deployed_at as deployed_at
    from {{ ref('stg_circleci__deploy_versions') }} as versions
    inner join {{ ref('stg_circleci__deploy_components') }} as components
        on versions.component_id = components.id and versions.organization_id = components.organization_id
    left join {{ ref('stg_circleci__deploy') }} as environments
        on versions.environment_id = environments.id and versions.organization_id = environments.organization_id
    left join {{ ref('circleci__job_runs') }} as jobs on versions.job_id = jobs.job_id
    left join {{ ref('circleci__workflow_runs') }} as workflows on versions.workflow_id = workflows.workflow_id
    where versions.last_deployed_at is not null
),

found as (
    select
        deployed.*,
        coalesce(projects.slug, pipelines.project_slug) as project_slug
    from deployed
    left join {{ ref('stg_circleci__project') }} as projects on deployed.project_id = projects.project_id
    left join {{ ref('stg_circleci__pipelines') }} as pipelines on deployed.pipeline_id = pipelines.pipeline_id
),
{% else %}
with found as (
    select
        job_id as deployment_id,
        workflow_name as deployable,
        job_name as environment,
        workflow_id,
        pipeline_id,
        project_slug,
        result,
        stopped_at as deployed_at
    from {{ ref('circleci__job_runs') }}
    where
        not is_approval
        and '{{ dbt.escape_single_quotes(var("circleci_deployment_job", "")) }}' <> ''
        and {{ circleci.matches('job_name', var('circleci_deployment_job', '')) }}
    union all
    select
        workflow_id,
        workflow_name,
        workflow_name,
        workflow_id,
        pipeline_id,
        project_slug,
        result,
        stopped_at
    from {{ ref('circleci__workflow_runs') }}
    where
        '{{ dbt.escape_single_quotes(var("circleci_deployment_workflow", "")) }}' <> ''
        and {{ circleci.matches('workflow_name', var('circleci_deployment_workflow', '')) }}
),
{% endif %}

deployments as (
    select
        found.deployment_id,
        found.project_slug,
        found.deployable,
        found.environment,
        found.pipeline_id,
        found.workflow_id,
        found.result,
        found.deployed_at,
        pipelines.revision,
        pipelines.created_at as pushed_at,
        -- A commit that is deployed again is no new change.
        row_number() over (
            partition by
                found.project_slug, found.deployable, found.environment, found.result,
                coalesce(pipelines.revision, found.deployment_id)
            order by found.deployed_at, found.deployment_id
        ) as occurrence,
        min(case when found.result = 'success' then found.deployed_at end) over (
            partition by found.project_slug, found.deployable, found.environment
            order by found.deployed_at, found.deployment_id
            rows between 1 following and unbounded following
        ) as restored_at
    from found
    left join {{ ref('stg_circleci__pipelines') }} as pipelines on found.pipeline_id = pipelines.pipeline_id
    where found.result in ('success', 'failed') and found.deployed_at is not null
)

select
    deployments.deployment_id,
    deployments.project_slug,
    projects.project,
    deployments.deployable,
    deployments.environment,
    deployments.pipeline_id,
    deployments.workflow_id,
    deployments.revision,
    deployments.result,
    deployments.pushed_at,
    deployments.deployed_at,
    case
        when deployments.result = 'success' and deployments.occurrence = 1
            then {{ circleci.seconds('deployments.pushed_at', 'deployments.deployed_at') }}
    end as lead_time_seconds,
    case
        when deployments.result = 'failed'
            then {{ circleci.seconds('deployments.deployed_at', 'deployments.restored_at') }}
    end as time_to_restore_seconds
from deployments
left join {{ ref('int_circleci__projects') }} as projects on deployments.project_slug = projects.project_slug
