{{ holds(ref('circleci__monthly'), 'expected_monthly', "project_slug = 'gh/acme/tools'") }}
