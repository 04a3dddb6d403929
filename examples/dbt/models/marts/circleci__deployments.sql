{%- set by_versions = var('circleci_using_deploy_versions', false) and var('circleci_using_deploy_components', false) -%}
{%- set job, workflow = var('circleci_deployment_job', ''), var('circleci_deployment_workflow', '') -%}
{%- set branch = var('circleci_deployment_branch', '') -%}
{%- set environment = var('circleci_deployment_environment', '') -%}
{%- set no_environment = var('circleci_no_deployment_environment', '') -%}
with named as (
    select
        'job name' as told_by,
        job_id as deployment_id,
        workflow_name as deployable,
        job_name as environment,
        workflow_id,
        pipeline_id,
        project_slug,
        result,
        stopped_at as deployed_at
    from {{ ref('circleci__job_runs') }}
    where not is_approval and {{ circleci.matches('job_name', job) if job else '1 = 0' }}
    union all
    select
        'workflow name',
        workflow_id,
        workflow_name,
        workflow_name,
        workflow_id,
        pipeline_id,
        project_slug,
        result,
        stopped_at
    from {{ ref('circleci__workflow_runs') }}
    where {{ circleci.matches('workflow_name', workflow) if workflow else '1 = 0' }}
),

-- What counts among them: by default the default branch and tags, and no previews.
guessed as (
    select named.*
    from named
    left join {{ ref('stg_circleci__pipelines') }} as pipelines on named.pipeline_id = pipelines.pipeline_id
    left join {{ ref('int_circleci__projects') }} as projects on named.project_slug = projects.project_slug
    where
        {% if branch -%}
        {{ circleci.matches('pipelines.branch', branch) }}
        {%- else -%}
        (pipelines.branch = projects.default_branch or pipelines.git_tag is not null)
        {%- endif %}
        {% if environment -%} and {{ circleci.matches('named.environment', environment) }} {%- endif %}
        {% if no_environment -%} and not {{ circleci.matches('named.environment', no_environment) }} {%- endif %}
),

{% if by_versions %}
versions as (
    select
        'deploy_versions' as told_by,
        versions.component_id || '/' || versions.environment_id || '/' || coalesce(versions.namespace, '')
        || '/' || versions.name as deployment_id,
        components.name as deployable,
        coalesce(environments.name, versions.environment_id) as environment,
        versions.workflow_id,
        versions.pipeline_id,
        coalesce(projects.slug, pipelines.project_slug) as project_slug,
        coalesce(jobs.result, workflows.result, 'success') as result,
        versions.last_deployed_at as deployed_at
    from {{ ref('stg_circleci__deploy_versions') }} as versions
    inner join {{ ref('stg_circleci__deploy_components') }} as components
        on versions.component_id = components.id and versions.organization_id = components.organization_id
    left join {{ ref('stg_circleci__deploy') }} as environments
        on versions.environment_id = environments.id and versions.organization_id = environments.organization_id
    left join {{ ref('circleci__job_runs') }} as jobs on versions.job_id = jobs.job_id
    left join {{ ref('circleci__workflow_runs') }} as workflows on versions.workflow_id = workflows.workflow_id
    left join {{ ref('stg_circleci__project') }} as projects on components.project_id = projects.project_id
    left join {{ ref('stg_circleci__pipelines') }} as pipelines on versions.pipeline_id = pipelines.pipeline_id
    where versions.last_deployed_at is not null
),

-- An organization that does not use CircleCI's deploys has none: then the names count.
found as (
    select * from versions
    union all
    select * from guessed where not exists (select 1 from versions)
),
{% else %}
found as (
    select * from guessed
),
{% endif %}

ended as (
    select
        found.*,
        pipelines.branch,
        pipelines.revision,
        pipelines.created_at as pushed_at,
        -- A commit that is deployed again is no new change.
        row_number() over (
            partition by
                found.project_slug, found.deployable, found.environment, found.result,
                coalesce(pipelines.revision, found.deployment_id)
            order by found.deployed_at, found.deployment_id
        ) as occurrence,
        lag(found.result) over (
            partition by found.project_slug, found.deployable, found.environment
            order by found.deployed_at, found.deployment_id
        ) as result_before,
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
    ended.deployment_id,
    ended.told_by,
    ended.project_slug,
    projects.project,
    ended.deployable,
    ended.environment,
    ended.pipeline_id,
    ended.workflow_id,
    ended.branch,
    ended.revision,
    ended.result,
    ended.pushed_at,
    ended.deployed_at,
    case
        when ended.result = 'success' and ended.occurrence = 1
            then {{ circleci.seconds('ended.pushed_at', 'ended.deployed_at') }}
    end as lead_time_seconds,
    ended.result = 'failed' and coalesce(ended.result_before, 'success') <> 'failed' as begins_outage,
    case
        when ended.result = 'failed' and coalesce(ended.result_before, 'success') <> 'failed'
            then {{ circleci.seconds('ended.deployed_at', 'ended.restored_at') }}
    end as outage_seconds
from ended
left join {{ ref('int_circleci__projects') }} as projects on ended.project_slug = projects.project_slug
