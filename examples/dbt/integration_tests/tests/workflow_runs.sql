{{ holds(ref('circleci__workflow_runs'), 'expected_workflow_runs') }}
