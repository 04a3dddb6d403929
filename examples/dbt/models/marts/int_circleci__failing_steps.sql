-- The step that made each job fail: the first that failed, of its parallel runs the first.
{% if var('circleci_using_steps', false) %}
with failing as (
    select
        *,
        row_number() over (
            partition by job_id
            order by
                case when insignificant or background then 1 else 0 end,
                step_number,
                parallel_index
        ) as place
    from {{ ref('stg_circleci__steps') }}
    where
        coalesce(exit_code, 0) <> 0
        or failed
        or timedout
        or infrastructure_fail
        or status in ('failed', 'timedout', 'infrastructure_fail')
)

select
    job_id,
    step_number,
    parallel_index,
    coalesce(step_name, name) as step_name,
    exit_code,
    coalesce(step_name, name, '')
    || case when timedout or status = 'timedout' then ' timedout' else '' end
    || case when infrastructure_fail or status = 'infrastructure_fail' then ' infrastructure_fail' else '' end as told
from failing
where place = 1
{% else %}
select
    cast(null as {{ circleci.type('text') }}) as job_id,
    cast(null as {{ circleci.type('bigint') }}) as step_number,
    cast(null as {{ circleci.type('bigint') }}) as parallel_index,
    cast(null as {{ circleci.type('text') }}) as step_name,
    cast(null as {{ circleci.type('bigint') }}) as exit_code,
    cast(null as {{ circleci.type('text') }}) as told
from (select 1 as nothing) as nothing
where 1 = 0
{% endif %}
