{{ config(enabled=var('circleci_using_deploy_versions', false)) }}
{{ holds(ref('circleci__dora'), 'expected_dora_by_versions') }}
