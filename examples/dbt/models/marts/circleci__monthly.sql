{{ circleci.figures_by(circleci.month('created_at'), 'run_month') }}
