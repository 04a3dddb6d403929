{{ config(materialized=circleci.growing(), unique_key='job_id', on_schema_change='fail') }}

-- depends_on: {{ ref('stg_circleci__workflows') }}
{%- set sources = [] %}
{%- for stream in ['builds', 'job_details', 'usage'] if var('circleci_using_' ~ stream, false) %}
{%- do sources.append(ref('stg_circleci__' ~ stream)) %}
{%- endfor %}

with listed as (
    select * from {{ ref('int_circleci__listed_jobs') }}
),

{% if is_incremental() -%}
watermark as (
    {{ circleci.watermark() }}
),

loads as (
    select pipeline_id, loaded_at from {{ ref('stg_circleci__pipelines') }}
    union all
    select pipeline_id, loaded_at from {{ ref('stg_circleci__workflows') }}
    union all
    select pipeline_id, loaded_at from listed
    {%- for source in sources %}
    union all
    select listed.pipeline_id, told.loaded_at
    from {{ source }} as told
    inner join listed on told.job_id = listed.job_id
    {%- endfor %}
),

changed as (
    select loads.pipeline_id
    from loads
    cross join watermark
    where {{ circleci.is_new('loads.loaded_at') }}
    union
    select built.pipeline_id
    from {{ this }} as built
    left join {{ ref('stg_circleci__pipelines') }} as pipelines on built.pipeline_id = pipelines.pipeline_id
    left join {{ ref('int_circleci__projects') }} as projects on built.project_slug = projects.project_slug
    left join {{ ref('int_circleci__numbered_workflows') }} as workflow_runs
        on built.workflow_id = workflow_runs.workflow_id
    where
        {{ circleci.differs('built', 'projects', ['project']) }}
        or {{ circleci.differs('built', 'workflow_runs', ['person']) }}
        or built.is_default_branch <> coalesce(pipelines.branch = projects.default_branch, false)
),

due as (
    select * from listed where pipeline_id in (select pipeline_id from changed)
),
{%- else -%}
due as (
    select * from listed
),
{%- endif %}

owners as (
    select * from due where listing = 1
),

states as (
    select * from due where state_rank = 1
),

runs as (
    select
        owners.job_id,
        owners.job_number,
        owners.name as job_name,
        owners.type as job_type,
        owners.type = 'approval' as is_approval,
        owners.workflow_id,
        owners.workflow_name,
        owners.pipeline_id,
        owners.project_slug,
        owners.listings as times_listed,
        states.status,
        -- A job that was never run can stay blocked forever: only its workflow shows that it is over.
        case
            when owners.is_workflow_finished and states.started_at is null
                and states.status in ('blocked', 'not_running', 'queued', 'on_hold') then 'not_run'
            else {{ circleci.result('states.status') }}
        end as result,
        states.approved_by,
        states.canceled_by,
        states.started_at,
        states.stopped_at,
        states.loaded_at
    from owners
    inner join states on owners.job_id = states.job_id
)

select
    runs.job_id,
    runs.job_number,
    runs.job_name,
    runs.job_type,
    coalesce(runs.is_approval, false) as is_approval,
    runs.workflow_id,
    runs.workflow_name,
    runs.pipeline_id,
    runs.project_slug,
    projects.project,
    pipelines.branch,
    coalesce(pipelines.branch = projects.default_branch, false) as is_default_branch,
    pipelines.revision,
    workflow_runs.person,
    coalesce(workflow_runs.rerun_number, 0) as rerun_number,
    runs.times_listed,
    runs.status,
    runs.result,
    runs.approved_by,
    runs.canceled_by,
    resources.queued_at,
    runs.started_at,
    runs.stopped_at,
    case
        when runs.is_approval or runs.result is null or runs.result = 'not_run' then null
        else {{ circleci.seconds('runs.started_at', 'runs.stopped_at') }}
    end as duration_seconds,
    {{ circleci.seconds('resources.queued_at', 'runs.started_at') }} as queue_seconds,
    resources.resource_class,
    resources.executor,
    resources.parallelism,
    resources.credits,
    runs.loaded_at
from runs
left join {{ ref('stg_circleci__pipelines') }} as pipelines on runs.pipeline_id = pipelines.pipeline_id
left join {{ ref('int_circleci__projects') }} as projects on runs.project_slug = projects.project_slug
left join {{ ref('int_circleci__numbered_workflows') }} as workflow_runs on runs.workflow_id = workflow_runs.workflow_id
left join {{ ref('int_circleci__job_resources') }} as resources on runs.job_id = resources.job_id
