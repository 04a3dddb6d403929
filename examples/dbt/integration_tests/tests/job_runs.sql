{{ holds(ref('circleci__job_runs'), 'expected_job_runs') }}
