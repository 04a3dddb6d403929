"""The cost of every job run, from usage exports."""

from datetime import timedelta

from tap_circleci.streams.stream import DOCS, Columns, ExportFiles, Source, Stream, Timing

_ORGANIZATION = {"organization_id": "organization_id"}


USAGE = (
    Stream(
        "usage",
        key=("organization_id", "_date", "_id"),
        parent="collaborations",
        replication_key="_date",
        source=Source(
            "/api/v2/organizations/{organization_id}/usage_export_job",
            DOCS + "#tag/Usage/operation/createUsageExport",
            answer=ExportFiles(),
        ),
        row=Columns(
            identity=(  # fields that never change: a measure may be corrected, a project or branch renamed
                "project_id",
                "pipeline_id",
                "workflow_id",
                "job_id",
                "job_run_number",
                "job_name",
                "job_run_queued_at",
                "job_run_started_at",
                "resource_class",
                "executor",
                "pipeline_trigger_user_id",
            ),
            default_columns=_ORGANIZATION,
        ),
        timing=Timing(look_back=timedelta(days=3), history=timedelta(days=365)),
        is_extra=True,
    ),
)
"""The stream that is read from exports."""
