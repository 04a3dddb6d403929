{{ holds(ref('circleci__job_sizes'), 'expected_job_sizes') }}
