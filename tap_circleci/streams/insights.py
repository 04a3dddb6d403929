"""CircleCI's insights into the projects that the user names."""

from datetime import timedelta

from tap_circleci.streams.stream import DOCS, Columns, Items, Source, Stream, Timing

_SLUG = {"_project_slug": "project_slug"}
_NO_FLAKY_TESTS = frozenset(range(400, 500)) - {401, 403, 408, 429}
"""Only organizations of GitHub and Bitbucket have this list; four statuses keep their usual meaning."""


INSIGHTS = (
    Stream(
        "insights_workflows",
        key=("_project_slug", "name"),
        parent="project",
        source=Source(
            "/api/v2/insights/{project_slug}/workflows",
            DOCS + "#tag/Insights/operation/getProjectWorkflowMetrics",
            params={"all-branches": "true", "reporting-window": "last-90-days"},
        ),
        row=Columns(identity=("name",), child_context={"name": "workflow_name"}, parent_columns=_SLUG),
        timing=Timing(configured_only=True),
        is_extra=True,
    ),
    Stream(
        "insights_workflow_runs",
        parent="insights_workflows",
        replication_key="created_at",
        source=Source(
            "/api/v2/insights/{project_slug}/workflows/{workflow_name}",
            DOCS + "#tag/Insights/operation/getProjectWorkflowRuns",
            params={"all-branches": "true"},
            from_param="start-date",
            to_param="end-date",
        ),
        row=Columns(parent_columns={**_SLUG, "_workflow_name": "workflow_name"}),
        timing=Timing(look_back=timedelta(days=7), history=timedelta(days=90)),
        is_extra=True,
    ),
    Stream(
        "insights_jobs",
        key=("_project_slug", "_workflow_name", "name"),
        parent="insights_workflows",
        source=Source(
            "/api/v2/insights/{project_slug}/workflows/{workflow_name}/jobs",
            DOCS + "#tag/Insights/operation/getProjectWorkflowJobMetrics",
            params={"all-branches": "true", "reporting-window": "last-90-days"},
        ),
        row=Columns(identity=("name",), parent_columns={**_SLUG, "_workflow_name": "workflow_name"}),
        is_extra=True,
    ),
    Stream(
        "flaky_tests",
        key=("_project_slug", "workflow_name", "job_name", "classname", "test_name"),
        parent="project",
        source=Source(
            "/api/v2/insights/{project_slug}/flaky-tests",
            DOCS + "#tag/Insights/operation/getFlakyTests",
            not_offered=_NO_FLAKY_TESTS,
            answer=Items(("flaky_tests", "flaky-tests")),
        ),
        row=Columns(
            identity=("workflow_name", "job_name", "classname", "test_name"),
            parent_columns=_SLUG,
            blank_columns=("workflow_name", "job_name", "classname", "test_name"),
        ),
        timing=Timing(configured_only=True),
        is_extra=True,
    ),
)
"""Metrics and runs of the last 90 days, up to a day late."""

SUMMARIES = (
    Stream(
        "insights_job_days",
        key=("_project_slug", "_workflow_name", "name", "timestamp"),
        parent="insights_workflows",
        replication_key="timestamp",
        source=Source(
            "/api/v2/insights/time-series/{project_slug}/workflows/{workflow_name}/jobs",
            DOCS + "#tag/Insights/operation/getJobTimeseries",
            params={"granularity": "daily"},
            from_param="start-date",
            to_param="end-date",
        ),
        row=Columns(identity=("name", "timestamp"), parent_columns={**_SLUG, "_workflow_name": "workflow_name"}),
        timing=Timing(look_back=timedelta(days=7), whole_days=True, history=timedelta(days=90)),
        is_extra=True,
    ),
    Stream(
        "insights_projects",
        key=("organization_id", "project_name"),
        parent="collaborations",
        source=Source(
            "/api/v2/insights/{organization_slug}/summary",
            DOCS + "#tag/Insights/operation/getOrgSummaryData",
            params={"reporting-window": "last-90-days"},
            answer=Items(("org_project_data",)),
        ),
        row=Columns(identity=("project_name",), parent_columns={"organization_id": "organization_id"}),
        is_extra=True,
    ),
    Stream(
        "insights_branches",
        key=("_project_slug", "workflow_name", "branch"),
        parent="project",
        source=Source(
            "/api/v2/insights/pages/{project_slug}/summary",
            DOCS + "#tag/Insights/operation/getProjectWorkflowsPageData",
            params={"reporting-window": "last-90-days"},
            answer=Items(("project_workflow_branch_data",)),
        ),
        row=Columns(identity=("workflow_name", "branch"), parent_columns=_SLUG),
        timing=Timing(configured_only=True),
        is_extra=True,
    ),
    Stream(
        "insights_tests",
        key=("_project_slug", "_workflow_name", "job_name", "classname", "test_name"),
        parent="insights_workflows",
        source=Source(
            "/api/v2/insights/{project_slug}/workflows/{workflow_name}/test-metrics",
            DOCS + "#tag/Insights/operation/getProjectWorkflowTestMetrics",
            params={"all-branches": "true"},
            answer=Items(("most_failed_tests", "slowest_tests")),
        ),
        row=Columns(
            identity=("job_name", "classname", "test_name"),
            parent_columns={**_SLUG, "_workflow_name": "workflow_name"},
            blank_columns=("job_name", "classname", "test_name"),
        ),
        is_extra=True,
    ),
)
"""Summaries by day, project, branch and test."""
