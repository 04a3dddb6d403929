{{ config(enabled=var('circleci_using_tests', false)) }}

{%- set one_test -%}
partition by project_slug, workflow_name, job_name, classname, test_name, revision order by started_at, job_id, test_index
{%- endset %}

with results as (
    select
        jobs.project_slug,
        jobs.project,
        jobs.workflow_name,
        jobs.job_name,
        jobs.revision,
        jobs.started_at,
        jobs.job_id,
        tests.test_index,
        coalesce(tests.classname, '') as classname,
        tests.name as test_name,
        tests.file,
        tests.run_time,
        tests.result = 'success' as has_passed
    from {{ ref('stg_circleci__tests') }} as tests
    inner join {{ ref('circleci__job_runs') }} as jobs on tests.job_id = jobs.job_id
    where tests.result in ('success', 'failure', 'error') and jobs.revision is not null and jobs.started_at is not null
),

-- Where any two differ within the days, two neighbours do.
neighbours as (
    select
        *,
        lag(has_passed) over ({{ one_test }}) as had_passed,
        lag(started_at) over ({{ one_test }}) as earlier_at
    from results
),

judged as (
    select
        *,
        coalesce(
            has_passed <> had_passed
            and started_at <= {{ circleci.plus_hours('earlier_at', 24 * var('circleci_flaky_days', 14)) }},
            false
        ) as is_flip
    from neighbours
)

select
    project_slug,
    min(project) as project,
    workflow_name,
    job_name,
    classname,
    test_name,
    min(file) as file,
    count(*) as runs,
    count(case when not has_passed then 1 end) as failures,
    count(distinct revision) as commits,
    count(distinct case when is_flip then revision end) as flaky_commits,
    max(case when is_flip then started_at end) as last_flaked_at,
    avg(run_time) as mean_run_time_seconds
from judged
group by project_slug, workflow_name, job_name, classname, test_name
having count(case when is_flip then 1 end) > 0
