-- Workflows with the number of their rerun: a rerun is a new workflow of the same name in the same pipeline.
with numbered as (
    select
        workflows.*,
        row_number() over (
            partition by workflows.pipeline_id, workflows.name, coalesce(workflows.{{ circleci.column('tag') }}, '')
            order by workflows.created_at, workflows.workflow_id
        ) - 1 as rerun_number
    from {{ ref('stg_circleci__workflows') }} as workflows
)

select
    numbered.*,
    coalesce(
        people.login,
        case when numbered.rerun_number = 0 then nullif(pipelines.actor_login, '') end,
        numbered.started_by
    ) as person
from numbered
left join {{ ref('stg_circleci__pipelines') }} as pipelines on numbered.pipeline_id = pipelines.pipeline_id
left join {{ ref('int_circleci__people') }} as people on numbered.started_by = people.user_id
