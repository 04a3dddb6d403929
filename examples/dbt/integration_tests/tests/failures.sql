{{ holds(ref('circleci__failures'), 'expected_failures', "project_slug = 'gh/acme/tools'") }}
