{{ holds(ref('circleci__step_runs'), 'expected_step_runs', "job_id in ('TJ-m1', 'TJ-two-outputs')") }}
