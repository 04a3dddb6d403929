{{ holds(ref('circleci__rerun_costs'), 'expected_rerun_costs', "project_slug = 'gh/acme/tools'") }}
