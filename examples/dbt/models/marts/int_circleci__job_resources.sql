-- What builds, job_details and usage tell of a job, one row a job; none where none of them is loaded.
with told as (
    select
        cast(null as {{ circleci.type('text') }}) as job_id,
        cast(null as timestamp) as queued_at,
        cast(null as {{ circleci.type('text') }}) as resource_class,
        cast(null as {{ circleci.type('text') }}) as executor,
        cast(null as {{ circleci.type('bigint') }}) as parallelism,
        cast(null as {{ circleci.type('double') }}) as credits
    from (select 1 as nothing) as nothing
    where 1 = 0
{% if var('circleci_using_builds', false) %}
    union all
    select
        job_id,
        queued_at,
        cast(null as {{ circleci.type('text') }}),
        cast(null as {{ circleci.type('text') }}),
        {{ circleci.column('parallel') }},
        cast(null as {{ circleci.type('double') }})
    from {{ ref('stg_circleci__builds') }}
    where job_id is not null
{% endif %}
{% if var('circleci_using_job_details', false) %}
    union all
    select job_id, queued_at, resource_class, executor_type, parallelism, cast(null as {{ circleci.type('double') }})
    from {{ ref('stg_circleci__job_details') }}
{% endif %}
{% if var('circleci_using_usage', false) %}
    union all
    select
        job_id,
        min(job_run_queued_at),
        max(resource_class),
        max(executor),
        max(parallelism),
        sum(total_credits - coalesce(user_credits, 0))
    from {{ ref('stg_circleci__usage') }}
    where job_id is not null
    group by job_id
{% endif %}
)

select
    job_id,
    min(queued_at) as queued_at,
    max(resource_class) as resource_class,
    max(executor) as executor,
    max(parallelism) as parallelism,
    max(credits) as credits
from told
group by job_id
