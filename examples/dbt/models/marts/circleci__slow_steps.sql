{{ config(enabled=var('circleci_using_steps', false)) }}

{{ circleci.slowest(
    ref('circleci__step_runs'),
    ['project_slug', 'workflow_name', 'job_name', 'step_name'],
    'seconds',
    'not is_background',
    whole='job_seconds',
) }}
