{{ config(enabled=var('circleci_using_usage', false)) }}

with sizes as (
    select
        project_id,
        min(project_slug) as project_slug,
        min(project_name) as project,
        workflow_name,
        job_name,
        resource_class,
        count(job_id) as job_runs,
        count(case when max_cpu_utilization_pct is not null and max_ram_utilization_pct is not null then 1 end)
            as measured_runs,
        avg(median_cpu_utilization_pct) as median_cpu_pct,
        avg(max_cpu_utilization_pct) as peak_cpu_pct,
        avg(median_ram_utilization_pct) as median_ram_pct,
        avg(max_ram_utilization_pct) as peak_ram_pct,
        avg(job_run_seconds) as mean_seconds,
        {{ circleci.price('sum(coalesce(total_credits, 0) - coalesce(user_credits, 0))') }} as cost
    from {{ ref('int_circleci__usage') }}
    where job_id is not null
    group by project_id, workflow_name, job_name, resource_class
)

select
    *,
    case
        when measured_runs = 0 then null
        when
            median_cpu_pct >= {{ var('circleci_undersized_pct', 80) }}
            or peak_ram_pct >= {{ var('circleci_undersized_pct', 80) }} then 'undersized'
        when
            peak_cpu_pct <= {{ var('circleci_oversized_pct', 40) }}
            and peak_ram_pct <= {{ var('circleci_oversized_pct', 40) }} then 'oversized'
        else 'fitting'
    end as verdict
from sizes
