{{ holds(ref('circleci__flaky_tests'), 'expected_flaky_tests') }}
