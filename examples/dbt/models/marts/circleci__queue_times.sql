with waits as (
    select
        job_id,
        project_slug,
        project,
        coalesce(resource_class, 'unknown') as resource_class,
        queued_at,
        started_at,
        queue_seconds
    from {{ ref('circleci__job_runs') }}
    where queue_seconds >= 0 and not is_approval
),

events as (
    select job_id, project_slug, resource_class, queued_at as moment, 1 as change from waits
    union all
    select job_id, project_slug, resource_class, started_at, -1 from waits
),

-- How many wait at each moment: who starts leaves the queue before who comes.
levels as (
    select
        project_slug,
        resource_class,
        moment,
        change,
        sum(change) over (
            partition by project_slug, resource_class
            order by moment, change, job_id
            rows between unbounded preceding and current row
        ) as waiting
    from events
),

peaks as (
    select
        project_slug,
        resource_class,
        {{ circleci.weekday(circleci.local('moment')) }} as weekday,
        {{ circleci.hour(circleci.local('moment')) }} as hour,
        max(waiting) as most_waiting
    from levels
    where change = 1
    group by
        project_slug,
        resource_class,
        {{ circleci.weekday(circleci.local('moment')) }},
        {{ circleci.hour(circleci.local('moment')) }}
),

hours as (
    select
        project_slug,
        min(project) as project,
        resource_class,
        {{ circleci.weekday(circleci.local('queued_at')) }} as weekday,
        {{ circleci.hour(circleci.local('queued_at')) }} as hour,
        count(*) as job_runs,
        sum(queue_seconds) as total_seconds,
        {{ circleci.percentile('queue_seconds', 0.5) }} as p50_seconds,
        {{ circleci.percentile('queue_seconds', 0.95) }} as p95_seconds
    from waits
    group by
        project_slug,
        resource_class,
        {{ circleci.weekday(circleci.local('queued_at')) }},
        {{ circleci.hour(circleci.local('queued_at')) }}
)

select
    hours.*,
    peaks.most_waiting
from hours
inner join peaks
    on
        hours.project_slug = peaks.project_slug
        and hours.resource_class = peaks.resource_class
        and hours.weekday = peaks.weekday
        and hours.hour = peaks.hour
