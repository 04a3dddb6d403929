{{ holds(ref('circleci__daily'), 'expected_daily') }}
