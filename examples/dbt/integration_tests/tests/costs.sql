{{ holds(ref('circleci__costs'), 'expected_costs') }}
