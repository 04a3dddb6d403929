{{ holds(ref('circleci__insights_check'), 'expected_insights_check') }}
