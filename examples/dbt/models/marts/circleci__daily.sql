with days as (
{{ circleci.figures_by(circleci.day('created_at'), 'run_day') }}
),

-- Joined rather than a window: not every warehouse has windows of days.
weeks as (
    select
        days.project_slug,
        days.workflow_name,
        days.run_day,
        sum(others.runs) as runs
    from days
    inner join days as others
        on
            days.project_slug = others.project_slug
            and days.workflow_name = others.workflow_name
            and others.run_day between {{ circleci.plus_days('days.run_day', -6) }} and days.run_day
    group by days.project_slug, days.workflow_name, days.run_day
)

select
    days.*,
    {{ circleci.share('weeks.runs', 7) }} as throughput_7_days
from days
inner join weeks
    on
        days.project_slug = weeks.project_slug
        and days.workflow_name = weeks.workflow_name
        and days.run_day = weeks.run_day
