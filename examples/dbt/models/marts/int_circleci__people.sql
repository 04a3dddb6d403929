-- The login of each user id, where it is beyond doubt: who started a pipeline's first workflows is who triggered it.
select
    workflows.started_by as user_id,
    min(pipelines.actor_login) as login
from {{ ref('stg_circleci__workflows') }} as workflows
inner join {{ ref('stg_circleci__pipelines') }} as pipelines on workflows.pipeline_id = pipelines.pipeline_id
where
    workflows.started_by is not null
    and pipelines.actor_login <> ''
    and {{ circleci.seconds('pipelines.created_at', 'workflows.created_at') }} < 60
group by workflows.started_by
having count(distinct pipelines.actor_login) = 1
