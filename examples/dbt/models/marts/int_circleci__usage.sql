{{ config(enabled=var('circleci_using_usage', false)) }}

-- Usage with names: the project's slug and the person, as far as the other tables tell.
select
    usage.*,
    coalesce(projects.slug, pipelines.project_slug) as project_slug,
    coalesce(
        people.login,
        case when usage.pipeline_trigger_user_id is null then nullif(pipelines.actor_login, '') end,
        usage.pipeline_trigger_user_id
    ) as person
from {{ ref('stg_circleci__usage') }} as usage
left join (
    select project_id, min(slug) as slug from {{ ref('stg_circleci__project') }} group by project_id
) as projects on usage.project_id = projects.project_id
left join {{ ref('stg_circleci__pipelines') }} as pipelines on usage.pipeline_id = pipelines.pipeline_id
left join {{ ref('int_circleci__people') }} as people on usage.pipeline_trigger_user_id = people.user_id
