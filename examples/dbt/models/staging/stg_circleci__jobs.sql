with latest as (
{{ circleci.latest('jobs', key=['id', '_workflow_id'], then_by=['stopped_at', 'started_at'], columns={
    'id': 'text',
    '_workflow_id': 'text',
    '_pipeline_id': 'text',
    'project_slug': 'text',
    'name': 'text',
    'type': 'text',
    'status': 'text',
    'job_number': 'bigint',
    'started_at': 'timestamp',
    'stopped_at': 'timestamp',
    'dependencies': 'json',
    'requires': 'json',
    'canceled_by': 'text',
    'approved_by': 'text',
    'approval_request_id': 'text',
}) }}
)

select
    id as job_id,
    _workflow_id as workflow_id,
    _pipeline_id as pipeline_id,
    project_slug,
    name,
    type,
    status,
    job_number,
    started_at,
    stopped_at,
    dependencies,
    requires,
    canceled_by,
    approved_by,
    approval_request_id,
    loaded_at
from latest
