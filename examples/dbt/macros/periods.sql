{#- How many runs, how reliable, how fast: per project, workflow and period, which is an expression of created_at. -#}
{% macro figures_by(period, name) %}
with runs as (
    select
        *,
        {{ period }} as {{ name }},
        -- The next success of the same workflow on the same branch.
        min(case when result = 'success' then stopped_at end) over (
            partition by project_slug, workflow_name, coalesce(branch, '')
            order by created_at, workflow_id
            rows between 1 following and unbounded following
        ) as recovered_at
    from {{ ref('circleci__workflow_runs') }}
    where coalesce(result, '') <> 'not_run'
),

timed as (
    select
        *,
        case
            when result <> 'failed' then null
            when recovered_at < stopped_at then 0
            else {{ circleci.seconds('stopped_at', 'recovered_at') }}
        end as recovery_seconds
    from runs
),

counted as (
    select
        project_slug,
        min(project) as project,
        workflow_name,
        {{ name }},
        count(*) as runs,
        count(result) as finished_runs,
        count(case when result = 'success' then 1 end) as successful_runs,
        count(case when result = 'failed' then 1 end) as failed_runs,
        count(case when is_infrastructure_failure then 1 end) as infrastructure_failed_runs,
        count(case when result = 'canceled' then 1 end) as canceled_runs,
        count(case when is_rerun then 1 end) as reruns,
        count(case when is_default_branch then 1 end) as default_branch_runs,
        count(case when is_default_branch and result = 'success' then 1 end) as default_branch_successful_runs,
        count(case when is_default_branch and result = 'failed' then 1 end) as default_branch_failed_runs,
        {{ circleci.percentile('duration_seconds', 0.5) }} as p50_duration_seconds,
        {{ circleci.percentile('duration_seconds', 0.95) }} as p95_duration_seconds,
        avg(duration_seconds) as mean_duration_seconds,
        count(recovery_seconds) as recovered_failures,
        avg(recovery_seconds) as mean_time_to_recovery_seconds
    from timed
    group by project_slug, workflow_name, {{ name }}
)

select
    *,
    {{ circleci.share('successful_runs', 'finished_runs - canceled_runs') }} as success_rate,
    {{ circleci.share('successful_runs', 'finished_runs - canceled_runs - infrastructure_failed_runs') }}
        as success_rate_without_infrastructure,
    {{ circleci.share('default_branch_successful_runs', 'default_branch_successful_runs + default_branch_failed_runs') }}
        as default_branch_success_rate
from counted
{%- endmacro %}


{#- How long something takes, by name, and how that was before: the last circleci_compare_days up to the newest run, and as
    many before. `whole` is what each is a part of. -#}
{% macro slowest(relation, names, seconds, condition, whole=none) %}
{%- set days = var('circleci_compare_days', 14) -%}
{%- set names = names | join(', ') -%}
select
    {{ names }},
    min(project) as project,
    count(*) as runs,
    sum({{ seconds }}) as total_seconds,
    {{ circleci.percentile(seconds, 0.5) }} as p50_seconds,
    {{ circleci.percentile(seconds, 0.95) }} as p95_seconds,
    {%- if whole %}
    {{ circleci.share('sum(' ~ seconds ~ ')', 'sum(' ~ whole ~ ')') }} as share_of_job,
    {%- endif %}
    count(case when is_recent then 1 end) as recent_runs,
    count(case when is_before then 1 end) as runs_before,
    {{ circleci.percentile('case when is_recent then ' ~ seconds ~ ' end', 0.5) }} as recent_p50_seconds,
    {{ circleci.percentile('case when is_before then ' ~ seconds ~ ' end', 0.5) }} as p50_seconds_before,
    {{ circleci.share(
        circleci.percentile('case when is_recent then ' ~ seconds ~ ' end', 0.5),
        circleci.percentile('case when is_before then ' ~ seconds ~ ' end', 0.5),
    ) }} as change
from (
    select
        told.*,
        told.started_at > {{ circleci.plus_hours('newest.started_at', -24 * days) }} as is_recent,
        told.started_at <= {{ circleci.plus_hours('newest.started_at', -24 * days) }}
        and told.started_at > {{ circleci.plus_hours('newest.started_at', -48 * days) }} as is_before
    from {{ relation }} as told
    cross join (select max(started_at) as started_at from {{ ref('circleci__job_runs') }}) as newest
    where {{ condition }}
) as compared
group by {{ names }}
{%- endmacro %}
