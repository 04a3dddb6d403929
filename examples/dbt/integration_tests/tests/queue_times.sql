{{ holds(ref('circleci__queue_times'), 'expected_queue_times', "project_slug = 'gh/acme/tools'") }}
