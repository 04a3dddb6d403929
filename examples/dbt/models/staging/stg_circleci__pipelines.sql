with latest as (
{{ circleci.latest('pipelines', key=['id'], then_by=['updated_at'], columns={
    'id': 'text',
    'project_slug': 'text',
    'number': 'bigint',
    'state': 'text',
    'created_at': 'timestamp',
    'updated_at': 'timestamp',
    'errors': 'json',
    'warnings': 'json',
    'trigger': 'json',
    'trigger_parameters': 'json',
    'vcs': 'json',
    'workflows': 'json',
}) }}
)

select
    id as pipeline_id,
    project_slug,
    number,
    state,
    created_at,
    updated_at,
    errors,
    warnings,
    {{ circleci.column('trigger') }},
    trigger_parameters,
    vcs,
    workflows,
    {{ circleci.json_text(circleci.column('trigger'), ['type']) }} as trigger_type,
    {{ circleci.json_text(circleci.column('trigger'), ['actor', 'login']) }} as actor_login,
    {{ circleci.json_text('vcs', ['branch']) }} as branch,
    {{ circleci.json_text('vcs', ['tag']) }} as git_tag,
    {{ circleci.json_text('vcs', ['revision']) }} as revision,
    {{ circleci.json_text('vcs', ['commit', 'subject']) }} as commit_subject,
    {{ circleci.json_text('vcs', ['review_id']) }} as review_id,
    {{ circleci.json_text('vcs', ['review_url']) }} as review_url,
    loaded_at
from latest
