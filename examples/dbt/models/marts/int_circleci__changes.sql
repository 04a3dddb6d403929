-- What each pipeline was for: its pull request (as builds or the pipeline tell), its branch or tag, and its author.
with requests as (
{% if var('circleci_using_builds', false) %}
    select
        workflows.pipeline_id,
        min(builds.pull_request) as pull_request
    from {{ ref('stg_circleci__builds') }} as builds
    inner join {{ ref('stg_circleci__workflows') }} as workflows on builds.workflow_id = workflows.workflow_id
    group by workflows.pipeline_id
{% else %}
    select
        cast(null as {{ circleci.type('text') }}) as pipeline_id,
        cast(null as {{ circleci.type('text') }}) as pull_request
    from (select 1 as nothing) as nothing
    where 1 = 0
{% endif %}
)

select
    pipelines.pipeline_id,
    pipelines.project_slug,
    coalesce(requests.pull_request, pipelines.review_url, '#' || pipelines.review_id) as pull_request,
    coalesce(pipelines.branch, pipelines.git_tag) as branch,
    nullif(pipelines.actor_login, '') as author
from {{ ref('stg_circleci__pipelines') }} as pipelines
left join requests on pipelines.pipeline_id = requests.pipeline_id
