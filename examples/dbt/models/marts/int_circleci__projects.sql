-- The name of each project that has pipelines (as CircleCI has it, else the end of its slug) and its default branch.
with slugs as (
    select distinct project_slug from {{ ref('stg_circleci__pipelines') }} where project_slug is not null
),

projects as (
    select
        slug,
        min(project_id) as project_id,
        min(name) as name,
        min(default_branch) as default_branch
    from {{ ref('stg_circleci__project') }}
    group by slug
),

-- Without vcs_info: the first of circleci_default_branches that has pipelines.
usual as (
    select
        project_slug,
        coalesce(
            {%- for name in var('circleci_default_branches', ['main', 'master']) %}
            max(case when branch = {{ circleci.literal(name) }} then branch end),
            {%- endfor %}
            cast(null as {{ circleci.type('text') }}),
            cast(null as {{ circleci.type('text') }})
        ) as default_branch
    from {{ ref('stg_circleci__pipelines') }}
    group by project_slug
)

select
    slugs.project_slug,
    projects.project_id,
    coalesce(projects.name, {{ dbt.split_part('slugs.project_slug', "'/'", 3) }}) as project,
    coalesce(projects.default_branch, usual.default_branch) as default_branch
from slugs
left join projects on slugs.project_slug = projects.slug
left join usual on slugs.project_slug = usual.project_slug
