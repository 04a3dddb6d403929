with latest as (
{{ circleci.latest('trigger', key=['id', 'project_id', 'pipeline_definition_id', 'organization_id'], columns={
    'id': 'text',
    'project_id': 'text',
    'pipeline_definition_id': 'text',
    'organization_id': 'text',
    'name': 'text',
    'description': 'text',
    'event_name': 'text',
    'event_preset': 'text',
    'created_at': 'timestamp',
    'event_source': 'json',
    'checkout_ref': 'text',
    'config_ref': 'text',
    'disabled': 'boolean',
    'parameters': 'json',
}) }}
)

select
    id,
    project_id,
    pipeline_definition_id,
    organization_id,
    name,
    description,
    event_name,
    event_preset,
    created_at,
    event_source,
    checkout_ref,
    config_ref,
    disabled,
    parameters
from latest
