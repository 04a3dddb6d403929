{{ holds(ref('circleci__pipeline_runs'), 'expected_pipeline_runs') }}
