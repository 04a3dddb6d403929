select
    project_slug,
    min(project) as project,
    {{ circleci.week('failed_at') }} as week,
    class,
    reason,
    count(*) as failures,
    count(case when is_default_branch then 1 end) as default_branch_failures,
    count(case when has_passed_later then 1 end) as passed_later,
    sum(duration_seconds) / 60 as minutes,
    sum(credits) as credits,
    {{ circleci.price('sum(credits)') }} as cost
from {{ ref('circleci__failures') }}
group by project_slug, {{ circleci.week('failed_at') }}, class, reason
