{{ config(enabled=var('circleci_using_pipeline_values', false)) }}

with latest as (
{{ circleci.latest('pipeline_values', key=['pipeline_id'], columns={
    'pipeline_id': 'text',
    'values': 'json',
}) }}
)

select
    pipeline_id,
    {{ circleci.column('values') }} as pipeline_values
from latest
