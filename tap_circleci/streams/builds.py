"""Data that only API v1.1 has: when, by whom and why each job run was queued; its steps; output of failed steps.

v1.1 is older than v2, and CircleCI removes fields of its answers: every field but the key may be absent.
"""

from collections.abc import Mapping
from typing import Any

from tap_circleci.streams.pipelines import JOB_COLUMNS, has_run
from tap_circleci.streams.stream import DOCS_V1, ByOffset, Columns, Download, Items, Nested, Source, Stream, Timing

HOSTS = {"gh": "github", "bb": "bitbucket"}
"""v1.1 spells the hosts of slugs in full."""
NOT_THERE = frozenset({410})
"""The status if v1.1 is switched off."""
_PRIVATE_OR_REDUNDANT = """
all_commit_details all_commit_details_truncated author_date author_email author_name body build_parameters build_url
canceler circle_yml committer_date committer_email committer_name compare context_ids failed feature_flags fleet
has_artifacts is_first_green_build jira_issue messages no_dependency_cache node oss owners picard previous
previous_successful_build pull_requests reponame retries ssh_disabled ssh_enabled ssh_users steps user username
vcs_type vcs_url workflows
"""
"""Private fields (mail addresses, bodies of commits, configs, parameters), and fields that other columns repeat."""
_ACTION = {**JOB_COLUMNS, "index": "index", "step": "step"}


def _has_failed(action: Mapping[str, Any]) -> bool:
    """Whether a step failed and has output: `failed` is mostly null, and built-in steps have no exit code."""
    failed = action.get("failed") is True or action.get("exit_code") not in (0, None)
    return failed and action.get("has_output", True) is True


BUILDS = Stream(
    "builds",
    key=("_project_slug", "build_num"),
    parent="project",
    replication_key="queued_at",
    source=Source(
        "/api/v1.1/project/{project_slug}",
        DOCS_V1 + "#recent-builds-for-a-single-project",
        paging=ByOffset(size_param="limit", size=100),
        answer=Items(()),
        hosts=HOSTS,
        not_offered=NOT_THERE,
    ),
    row=Columns(
        identity=("build_num",),
        parent_columns={"_project_slug": "project_slug"},
        taken_up={
            "workflow_id": ("workflows", "workflow_id"),
            "workflow_name": ("workflows", "workflow_name"),
            "job_id": ("workflows", "job_id"),
            "job_name": ("workflows", "job_name"),
            "user_login": ("user", "login"),
            "user_name": ("user", "name"),
            "canceler_login": ("canceler", "login"),
            "pull_request_urls": ("pull_requests", "url"),
        },
        left_out=tuple(_PRIVATE_OR_REDUNDANT.split()),
    ),
    timing=Timing(configured_only=True, by_number=True),
    is_extra=True,
)

STEPS = Stream(
    "steps",
    key=("_job_id", "index", "step"),
    parent="jobs",
    source=Source(
        "/api/v1.1/project/{project_slug}/{job_number}",
        DOCS_V1 + "#single-job",
        answer=Nested("steps", "actions", {"step_name": "name"}),
        hosts=HOSTS,
        not_offered=NOT_THERE,
    ),
    row=Columns(
        identity=("index", "step"),
        child_context={"step": "step", "index": "index", "output_url": "output_url"},
        parent_columns=JOB_COLUMNS,
        left_out=("bash_command", "messages", "output_url", "source", "truncation_len"),  # the script, a signed address
    ),
    timing=Timing(once=True, is_below=has_run, by_job_name=True),
    is_extra=True,
)

STEP_OUTPUTS = Stream(
    "step_outputs",
    key=("_job_id", "index", "step"),
    parent="steps",
    source=Source("{output_url}", DOCS_V1 + "#single-job", answer=Download("output_url")),
    row=Columns(identity=("index", "step"), parent_columns=_ACTION),
    timing=Timing(once=True, is_below=_has_failed),
    is_extra=True,
)

V1 = (BUILDS, STEPS, STEP_OUTPUTS)
"""The streams of API v1.1."""
