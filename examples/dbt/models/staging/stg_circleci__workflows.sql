with latest as (
{{ circleci.latest('workflows', key=['id'], then_by=['stopped_at'], columns={
    'id': 'text',
    'pipeline_id': 'text',
    'pipeline_number': 'bigint',
    'project_slug': 'text',
    'name': 'text',
    'status': 'text',
    'created_at': 'timestamp',
    'stopped_at': 'timestamp',
    'started_by': 'text',
    'canceled_by': 'text',
    'errored_by': 'text',
    'tag': 'text',
    'auto_rerun_number': 'bigint',
    'max_auto_reruns': 'bigint',
}) }}
)

select
    id as workflow_id,
    pipeline_id,
    pipeline_number,
    project_slug,
    name,
    status,
    created_at,
    stopped_at,
    started_by,
    canceled_by,
    errored_by,
    {{ circleci.column('tag') }},
    auto_rerun_number,
    max_auto_reruns,
    loaded_at
from latest
