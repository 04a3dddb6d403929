{{ config(enabled=var('circleci_using_pipeline_configs', false)) }}

with latest as (
{{ circleci.latest('pipeline_configs', key=['pipeline_id'], columns={
    'pipeline_id': 'text',
    'source': 'text',
    'compiled': 'text',
    'setup_config': 'text',
    'compiled_setup_config': 'text',
}) }}
)

select
    pipeline_id,
    source,
    compiled,
    setup_config,
    compiled_setup_config
from latest
