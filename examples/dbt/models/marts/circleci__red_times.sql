with runs as (
    select
        *,
        sum(case when result = 'success' then 1 else 0 end) over (
            partition by project_slug, workflow_name
            order by stopped_at, workflow_id
            rows between unbounded preceding and current row
        ) as successes
    from {{ ref('circleci__workflow_runs') }}
    where is_default_branch and result in ('success', 'failed') and stopped_at is not null
),

-- Failures in a row, with the same number of successes before them, are one red time.
reds as (
    select
        project_slug,
        project,
        workflow_name,
        successes,
        workflow_id,
        pipeline_id,
        revision,
        person,
        stopped_at,
        row_number() over (
            partition by project_slug, workflow_name, successes order by stopped_at, workflow_id
        ) as place,
        count(*) over (partition by project_slug, workflow_name, successes) as failed_runs,
        count(case when is_rerun then 1 end) over (partition by project_slug, workflow_name, successes) as failed_reruns
    from runs
    where result = 'failed'
),

greens as (
    select * from runs where result = 'success'
),

newest as (
    select max(stopped_at) as moment from {{ ref('circleci__workflow_runs') }}
)

select
    reds.project_slug,
    reds.project,
    reds.workflow_name,
    reds.workflow_id as red_workflow_id,
    reds.pipeline_id as red_pipeline_id,
    reds.revision as red_revision,
    reds.person as red_person,
    reds.stopped_at as red_at,
    reds.failed_runs,
    reds.failed_reruns,
    greens.workflow_id as green_workflow_id,
    greens.revision as green_revision,
    greens.person as green_person,
    greens.stopped_at as green_at,
    greens.workflow_id is null as is_red,
    coalesce(greens.revision = reds.revision, false) as is_green_without_change,
    {{ circleci.seconds('reds.stopped_at', 'coalesce(greens.stopped_at, newest.moment)') }} as red_seconds
from reds
cross join newest
left join greens
    on
        reds.project_slug = greens.project_slug
        and reds.workflow_name = greens.workflow_name
        and reds.successes + 1 = greens.successes
where reds.place = 1
