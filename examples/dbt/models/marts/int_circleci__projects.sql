-- The name of each project that has pipelines: as CircleCI has it, else the end of its slug.
with slugs as (
    select distinct project_slug from {{ ref('stg_circleci__pipelines') }} where project_slug is not null
),

projects as (
    select
        slug,
        min(project_id) as project_id,
        min(name) as name
    from {{ ref('stg_circleci__project') }}
    group by slug
)

select
    slugs.project_slug,
    projects.project_id,
    coalesce(projects.name, split_part(slugs.project_slug, '/', 3)) as project
from slugs
left join projects on slugs.project_slug = projects.slug
