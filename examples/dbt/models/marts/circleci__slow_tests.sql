{{ config(enabled=var('circleci_using_tests', false)) }}

with results as (
    select
        jobs.project_slug,
        jobs.project,
        jobs.workflow_name,
        jobs.job_name,
        coalesce(tests.classname, '') as classname,
        tests.name as test_name,
        tests.run_time as seconds,
        jobs.started_at
    from {{ ref('stg_circleci__tests') }} as tests
    inner join {{ ref('circleci__job_runs') }} as jobs on tests.job_id = jobs.job_id
    where tests.result <> 'skipped'
),

slowest as (
{{ circleci.slowest(
    'results', ['project_slug', 'workflow_name', 'job_name', 'classname', 'test_name'], 'seconds', 'seconds is not null'
) }}
)

select * from slowest
