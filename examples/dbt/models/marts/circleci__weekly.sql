{{ circleci.figures_by(circleci.week('created_at'), 'run_week') }}
