{{ holds(ref('circleci__weekly'), 'expected_weekly', "project_slug = 'gh/acme/tools'") }}
