{#- A seed instead of a loaded table; streams that the small world has no need of have none. -#}
{% macro default__stream(name) %}
    {%- set seeds = [
        'project', 'deploy', 'pipelines', 'workflows', 'jobs', 'job_details', 'tests', 'usage', 'insights_workflows',
        'deploy_components', 'deploy_versions', 'builds', 'steps', 'step_outputs',
    ] -%}
    {{ return(ref('circleci_integration_tests', 'raw_' ~ name) if name in seeds else source('circleci', name)) }}
{% endmacro %}
