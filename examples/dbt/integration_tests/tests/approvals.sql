{{ holds(ref('circleci__approvals'), 'expected_approvals', "project_slug = 'gh/acme/tools'") }}
