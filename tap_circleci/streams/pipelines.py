"""Pipelines and everything below them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tap_circleci.streams.stream import DOCS, Answer, Columns, FreeMap, Items, OneRow, Source, Stream, Timing

JOB_COLUMNS = {
    "_job_id": "job_id",
    "_pipeline_id": "pipeline_id",
    "project_slug": "project_slug",
    "job_number": "job_number",
}


def has_run(row: Mapping[str, Any]) -> bool:
    """Whether a job has run: an approval has no number, or a number without data."""
    return row.get("type") != "approval"


def _below_jobs(name: str, path: str, operation: str, key: tuple[str, ...], answer: Answer, row: Columns) -> Stream:
    """A stream that is read once for each job that has run."""
    return Stream(
        name,
        key=key,
        parent="jobs",
        source=Source(
            "/api/v2/project/{project_slug}/" + path, DOCS + f"#tag/Job/operation/{operation}", answer=answer
        ),
        row=replace(row, parent_columns=JOB_COLUMNS),
        timing=Timing(once=True, is_below=has_run, by_job_name=True),
        is_extra=True,
    )


ALWAYS = (
    Stream(
        "pipelines",
        replication_key="updated_at",
        source=Source(
            "/api/v2/project/{project_slug}/pipeline",
            DOCS + "#tag/Pipeline/operation/listPipelinesForProject",
            look_up="/api/v2/pipeline/{pipeline_id}",
        ),
        row=Columns(child_context={"id": "pipeline_id"}),
        timing=Timing(status="state", final=("created", "errored"), ended_at="updated_at"),
    ),
    Stream(
        "workflows",
        parent="pipelines",
        replication_key="created_at",
        source=Source(
            "/api/v2/pipeline/{pipeline_id}/workflow",
            DOCS + "#tag/Pipeline/operation/listWorkflowsByPipelineId",
            look_up="/api/v2/workflow/{workflow_id}",
        ),
        row=Columns(child_context={"id": "workflow_id"}),
        timing=Timing(
            status="status",
            final=("success", "failed", "error", "canceled", "unauthorized", "not_run"),
            ended_at="stopped_at",
        ),
    ),
    Stream(
        "jobs",
        key=("id", "_workflow_id"),
        parent="workflows",
        source=Source("/api/v2/workflow/{workflow_id}/job", DOCS + "#tag/Workflow/operation/listWorkflowJobs"),
        row=Columns(
            child_context={"id": "job_id", "job_number": "job_number", "project_slug": "project_slug"},
            parent_columns={"_workflow_id": "workflow_id", "_pipeline_id": "pipeline_id"},
        ),
        timing=Timing(
            status="status",
            unfinished=("running", "queued", "not_running", "blocked", "on_hold"),
            ended_at="stopped_at",
        ),
    ),
)
"""Pipelines, workflows and jobs: always discovered."""

INSIDE_JOBS = (
    _below_jobs("job_details", "job/{job_number}", "getJobDetails", ("_job_id",), OneRow(), Columns()),
    _below_jobs(
        "tests",
        "{job_number}/tests",
        "getTests",
        ("_job_id", "_index"),
        Items(),
        Columns(identity=(), index_column="_index"),
    ),
    _below_jobs(
        "artifacts",
        "{job_number}/artifacts",
        "getJobArtifacts",
        ("_job_id", "node_index", "path"),
        Items(),
        Columns(identity=("node_index", "path")),
    ),
)
"""The content of a job that has run."""


def _below_pipelines(name: str, path: str, operation: str, answer: Answer) -> Stream:
    """A stream that is read once for each pipeline in a final state."""
    return Stream(
        name,
        key=("pipeline_id",),
        parent="pipelines",
        source=Source(
            "/api/v2/pipeline/{pipeline_id}/" + path, DOCS + f"#tag/Pipeline/operation/{operation}", answer=answer
        ),
        row=Columns(parent_columns={"pipeline_id": "pipeline_id"}),
        timing=Timing(once=True),
        is_extra=True,
    )


INSIDE_PIPELINES = (
    _below_pipelines("pipeline_values", "values", "getPipelineValuesById", FreeMap("values")),
    _below_pipelines("pipeline_configs", "config", "getPipelineConfigById", OneRow(may_be_empty=True)),
)
"""The parameters and the config of a pipeline."""
