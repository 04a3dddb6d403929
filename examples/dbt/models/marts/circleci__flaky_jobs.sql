with runs as (
    select
        *,
        min(case when result = 'success' then started_at end) over (
            partition by project_slug, workflow_name, job_name, revision
            order by started_at, job_id
            rows between 1 following and unbounded following
        ) as passed_at
    from {{ ref('circleci__job_runs') }}
    where
        not is_approval
        and result in ('success', 'failed')
        and started_at is not null
        and revision is not null
),

judged as (
    select
        *,
        coalesce(
            result = 'failed'
            and passed_at <= {{ circleci.plus_hours('started_at', 24 * var('circleci_flaky_days', 14)) }},
            false
        ) as is_flake
    from runs
)

select
    project_slug,
    min(project) as project,
    workflow_name,
    job_name,
    count(*) as runs,
    count(distinct revision) as commits,
    count(case when is_flake then 1 end) as flakes,
    count(distinct case when is_flake then revision end) as flaky_commits,
    {{ circleci.share('count(distinct case when is_flake then revision end)', 'count(distinct revision)') }} as flake_rate,
    sum(case when is_flake then duration_seconds end) as wasted_seconds,
    max(case when is_flake then started_at end) as last_flaked_at
from judged
group by project_slug, workflow_name, job_name
having count(case when is_flake then 1 end) > 0
