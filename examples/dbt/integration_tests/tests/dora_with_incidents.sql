{{ config(enabled=not var('circleci_using_deploy_versions', false)) }}
{{ holds(ref('circleci__dora'), 'expected_dora_with_incidents', "project_slug = 'gh/acme/tools'") }}
