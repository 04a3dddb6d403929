{{ holds(ref('circleci__slow_steps'), 'expected_slow_steps', "project_slug = 'gh/acme/tools' and job_name = 'package'") }}
