-- What each failure left behind, a text each, by the place where a rule looks; the earlier one first where there are many.
with evidence as (
    select
        failure_id,
        case kind when 'job' then 'status' when 'workflow' then 'workflow_status' else 'pipeline_status' end as place,
        0 as seq,
        status as told
    from {{ ref('int_circleci__failed_runs') }}
    union all
    select
        failure_id,
        'later',
        0,
        'passed later on the same commit'
    from {{ ref('int_circleci__failed_runs') }}
    where has_passed_later
    union all
    select
        pipeline_id,
        'pipeline_error',
        0,
        coalesce({{ circleci.json_text('errors', [0, 'type']) }}, '')
        || ': ' || coalesce({{ circleci.json_text('errors', [0, 'message']) }}, '')
    from {{ ref('stg_circleci__pipelines') }}
    where state = 'errored'
    union all
    select
        job_id,
        'step',
        step_number,
        told
    from {{ ref('int_circleci__failing_steps') }}
    union all
    select
        job_id,
        'exit_code',
        step_number,
        cast(exit_code as {{ circleci.type('text') }})
    from {{ ref('int_circleci__failing_steps') }}
    where exit_code is not null
    {%- if var('circleci_using_step_outputs', false) %}
    union all
    select
        job_id,
        'output',
        step_number * 10000 + parallel_index,
        output
    from {{ ref('stg_circleci__step_outputs') }}
    {%- endif %}
    {%- if var('circleci_using_builds', false) %}
    union all
    select
        job_id,
        'build',
        build_num,
        coalesce(outcome, '') || ' ' || coalesce(fail_reason, '')
        || case when timedout then ' timedout' else '' end
        || case when infrastructure_fail then ' infrastructure_fail' else '' end
        || case when canceled then ' canceled' else '' end
    from {{ ref('stg_circleci__builds') }}
    where job_id is not null
    {%- endif %}
    {%- if var('circleci_using_job_details', false) %}
    union all
    select
        job_id,
        'message',
        0,
        {{ circleci.json_text('messages', [0, 'message']) }}
    from {{ ref('stg_circleci__job_details') }}
    {%- endif %}
    {%- if var('circleci_using_tests', false) %}
    union all
    select
        job_id,
        'test',
        test_index,
        coalesce(nullif(classname, '') || '.', '') || name
        || coalesce(': ' || nullif({{ circleci.start_of('message', 1000) }}, ''), '')
    from {{ ref('stg_circleci__tests') }}
    where result in ('failure', 'error')
    {%- endif %}
)

select
    evidence.failure_id,
    evidence.place,
    evidence.seq,
    evidence.told
from evidence
inner join {{ ref('int_circleci__failed_runs') }} as failures on evidence.failure_id = failures.failure_id
where evidence.told is not null
