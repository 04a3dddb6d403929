{{ holds(ref('circleci__change_costs'), 'expected_change_costs', "project_slug = 'gh/acme/tools'") }}
