{{ holds(ref('circleci__flaky_jobs'), 'expected_flaky_jobs') }}
