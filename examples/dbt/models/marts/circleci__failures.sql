-- depends_on: {{ ref('circleci_failure_rules') }}
{%- set rules = circleci.failure_rules() %}
with judged as (
    select
        failure_id,
        place,
        seq,
        told,
        {{ circleci.first_rule(rules, 'place', 'told') }} as rule
    from {{ ref('int_circleci__failure_evidence') }}
),

best as (
    select
        *,
        row_number() over (partition by failure_id order by rule, seq, told) as standing
    from judged
    where rule is not null
),

tests as (
    select
        failure_id,
        count(*) as failed_tests
    from {{ ref('int_circleci__failure_evidence') }}
    where place = 'test'
    group by failure_id
)

select
    failures.failure_id,
    failures.kind,
    failures.job_id,
    failures.job_number,
    failures.job_name,
    failures.workflow_id,
    failures.workflow_name,
    failures.pipeline_id,
    failures.project_slug,
    failures.project,
    failures.branch,
    failures.is_default_branch,
    failures.revision,
    failures.person,
    failures.rerun_number,
    failures.status,
    failures.failed_at,
    case
        when best.rule is not null then {{ circleci.of_rule(rules, 'class', 'best.rule') }}
        else 'unknown'
    end as class,
    replace(
        case
            when best.rule is not null then {{ circleci.of_rule(rules, 'reason', 'best.rule') }}
            else 'unknown'
        end,
        '{step}',
        coalesce(steps.step_name, '')
    ) as reason,
    best.place as told_by,
    {{ circleci.start_of('trim(' ~ circleci.line_of_rule(rules, 'best.told', 'best.rule') ~ ')', 500) }} as line,
    steps.step_name,
    steps.parallel_index,
    steps.exit_code,
    coalesce(tests.failed_tests, 0) as failed_tests,
    failures.has_passed_later,
    failures.duration_seconds,
    failures.credits
from {{ ref('int_circleci__failed_runs') }} as failures
left join best on failures.failure_id = best.failure_id and best.standing = 1
left join {{ ref('int_circleci__failing_steps') }} as steps on failures.job_id = steps.job_id
left join tests on failures.failure_id = tests.failure_id
