{{ holds(ref('circleci__failure_reasons'), 'expected_failure_reasons', "project_slug = 'gh/acme/tools'") }}
