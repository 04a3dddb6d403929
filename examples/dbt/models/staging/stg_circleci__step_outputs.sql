{{ config(enabled=var('circleci_using_step_outputs', false)) }}

with latest as (
{{ circleci.latest('step_outputs', key=['_job_id', 'index', 'step'], columns={
    '_job_id': 'text',
    'index': 'bigint',
    'step': 'bigint',
    '_pipeline_id': 'text',
    'project_slug': 'text',
    'job_number': 'bigint',
    'output': 'text',
    'is_truncated': 'boolean',
}) }}
)

select
    _job_id as job_id,
    {{ circleci.column('index') }} as parallel_index,
    {{ circleci.column('step') }} as step_number,
    _pipeline_id as pipeline_id,
    project_slug,
    job_number,
    output,
    is_truncated,
    loaded_at
from latest
