{{ config(
    enabled=var('circleci_using_steps', false),
    materialized=circleci.growing(),
    on_schema_change='fail',
    unique_key=['job_id', 'step_number'],
) }}
{%- set context = ['project', 'workflow_name', 'job_name', 'branch', 'is_default_branch', 'job_result', 'job_seconds'] %}

-- Parallel runs of a step count once, with the slowest of them.
with jobs as (
    select *, result as job_result, duration_seconds as job_seconds from {{ ref('circleci__job_runs') }}
),

{% if is_incremental() -%}
watermark as (
    {{ circleci.watermark() }}
),

changed as (
    select steps.job_id
    from {{ ref('stg_circleci__steps') }} as steps
    cross join watermark
    where {{ circleci.is_new('steps.loaded_at') }}
    union
    -- Steps that were there before their job was.
    select steps.job_id
    from {{ ref('stg_circleci__steps') }} as steps
    left join {{ this }} as built on steps.job_id = built.job_id
    where built.job_id is null
    union
    select built.job_id
    from {{ this }} as built
    inner join jobs on built.job_id = jobs.job_id
    where {{ circleci.differs('built', 'jobs', context) }}
),
{%- endif %}

steps as (
    select
        job_id,
        step_number,
        min(coalesce(step_name, name)) as step_name,
        min(type) as step_type,
        count(*) as parallel_runs,
        min(start_time) as started_at,
        max(end_time) as stopped_at,
        max(run_time_millis) / cast(1000 as {{ circleci.type('double') }}) as seconds,
        min(run_time_millis) / cast(1000 as {{ circleci.type('double') }}) as fastest_seconds,
        max(case when background then 1 else 0 end) = 1 as is_background,
        max(case when coalesce(exit_code, 0) <> 0 or failed or status in ('failed', 'timedout') then 1 else 0 end) = 1
            as has_failed,
        max(loaded_at) as loaded_at
    from {{ ref('stg_circleci__steps') }}
    {%- if is_incremental() %}
    where job_id in (select job_id from changed)
    {%- endif %}
    group by job_id, step_number
)

select
    steps.job_id,
    steps.step_number,
    steps.step_name,
    steps.step_type,
    jobs.project_slug,
    jobs.project,
    jobs.workflow_name,
    jobs.job_name,
    jobs.pipeline_id,
    jobs.branch,
    jobs.is_default_branch,
    jobs.job_result,
    steps.parallel_runs,
    steps.started_at,
    steps.stopped_at,
    steps.seconds,
    steps.fastest_seconds,
    steps.is_background,
    steps.has_failed,
    jobs.job_seconds,
    steps.loaded_at
from steps
inner join jobs on steps.job_id = jobs.job_id
