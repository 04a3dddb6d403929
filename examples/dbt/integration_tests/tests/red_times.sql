{{ holds(ref('circleci__red_times'), 'expected_red_times', "project_slug = 'gh/acme/tools'") }}
