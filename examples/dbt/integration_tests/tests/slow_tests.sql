{{ holds(ref('circleci__slow_tests'), 'expected_slow_tests', "project_slug = 'gh/acme/tools'") }}
