"""The streams as data: where they are read, what tells their rows apart, what a row gives its children.

A stream is added by a value here and a schema file of the same name; no other module knows a stream by its name, but
for the root of the walk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from string import Formatter

DOCS = "https://circleci.com/docs/api/v2/"


@dataclass(frozen=True)
class Stream:
    """One table and the endpoint that fills it.

    Where it is read:
    `path` and the values of `params` are templates over the ids that the ancestors' rows give. `takes_page_size`: the
    endpoint lets the caller choose. `rows_under` are the names under which an answer may have the rows; `is_object`:
    the answer is one row. `look_up` is where one row can be had by the project's slug when the list cannot.
    `from_param` and `to_param` limit the list to rows from a moment to another. `not_offered` are statuses that mean
    that there is no such list. `docs` is the API's page.

    What a row is:
    `key` and `replication_key` are the table's. `identity` are the fields that tell the rows of a list apart;
    with none of them, rows may be equal, and `index_column` numbers them. `child_context` maps a column to the id that
    it is to the children. `parent_columns` puts ancestors' ids into the rows (column -> id), `default_columns` does so
    only where the answer has no such field. `blank_columns` are texts of the key that the API may leave empty.
    `secret_urls` are paths to URLs whose query is masked, `left_out` are fields that are left out without a word.

    When it is read:
    `status` is one of `final` once nothing changes any more below the row, since `ended_at`. Where the statuses are an
    open set, `unfinished` has those that are not final instead.
    `below_final`: asked for only below a row in a final state; `not_below` are values of the parent's row below which
    there is none. `parent_names` is the key of the config that limits it to parents of some names.
    `configured_only`: only below the projects that the user names. `look_back` is how far before the bookmark an
    incremental list is read again, `history` how far back it goes at all. `is_extra`: only if the user asks for it.
    `is_export`: there is no list; the service is asked for an export of some days, whose rows are in files.
    """

    name: str
    path: str
    docs: str
    key: tuple[str, ...] = ("id",)
    parent: str | None = None
    replication_key: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    takes_page_size: bool = False
    rows_under: tuple[str, ...] = ("items",)
    is_object: bool = False
    look_up: str | None = None
    from_param: str | None = None
    to_param: str | None = None
    not_offered: frozenset[int] = frozenset()
    identity: tuple[str, ...] = ("id",)
    index_column: str | None = None
    child_context: Mapping[str, str] = field(default_factory=dict)
    parent_columns: Mapping[str, str] = field(default_factory=dict)
    default_columns: Mapping[str, str] = field(default_factory=dict)
    blank_columns: tuple[str, ...] = ()
    secret_urls: tuple[tuple[str, ...], ...] = ()
    left_out: tuple[str, ...] = ()
    status: str | None = None
    final: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    ended_at: str | None = None
    below_final: bool = False
    not_below: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parent_names: str | None = None
    configured_only: bool = False
    look_back: timedelta = timedelta(0)
    history: timedelta | None = None
    is_extra: bool = False
    is_export: bool = False

    @property
    def replication_method(self) -> str:
        """INCREMENTAL for the streams that have a replication key, FULL_TABLE for the others."""
        return "INCREMENTAL" if self.replication_key else "FULL_TABLE"

    @property
    def address(self) -> tuple[str, ...]:
        """The ids of ancestors that tell one of its lists from the others, in order."""
        found = (name for text in (self.path, *self.params.values()) for _, name, _, _ in Formatter().parse(text))
        return tuple(dict.fromkeys(name for name in found if name))

    @property
    def needs(self) -> frozenset[str]:
        """The ids of ancestors without which a list cannot be asked for, or its rows not be told apart."""
        return frozenset({*self.address, *self.parent_columns.values(), *self.default_columns.values()})

    @property
    def belongs_to_parent(self) -> bool:
        """Whether a row is another one below another parent, so that it is new when the parent is."""
        return any(column in self.parent_columns for column in self.key)


_ORGANIZATION = {"organization_id": "organization_id"}
_PROJECT = {**_ORGANIZATION, "project_id": "project_id"}
_JOB = {
    "_job_id": "job_id",
    "_pipeline_id": "pipeline_id",
    "project_slug": "project_slug",
    "job_number": "job_number",
}
_SLUG = {"_project_slug": "project_slug"}

_ALWAYS = (
    Stream(
        "collaborations",
        "/api/v2/me/collaborations",
        DOCS + "#tag/User/operation/getCollaborations",
        child_context={"id": "organization_id", "slug": "organization_slug"},
    ),
    Stream(
        "context",
        "/api/v2/context",
        DOCS + "#tag/Context/operation/listContexts",
        key=("id", "organization_id"),
        parent="collaborations",
        params={"owner-id": "{organization_id}", "owner-type": "organization"},
        child_context={"id": "context_id"},
        parent_columns=_ORGANIZATION,
    ),
    Stream(
        "deploy",
        "/api/v2/deploy/environments",
        DOCS + "#tag/Deploy/operation/listEnvironments",
        key=("id", "organization_id"),
        parent="collaborations",
        replication_key="updated_at",
        params={"org-id": "{organization_id}"},
        takes_page_size=True,
        parent_columns=_ORGANIZATION,
    ),
    Stream(
        "groups",
        "/api/v2/organizations/{organization_id}/groups",
        DOCS + "#tag/Groups/operation/getOrganizationGroups",
        key=("id", "organization_id"),
        parent="collaborations",
        parent_columns=_ORGANIZATION,
    ),
    Stream(
        "project",
        "/api/private/project",
        DOCS + "#tag/Project/operation/getProjectBySlug",
        key=("id", "organization_id"),
        parent="collaborations",
        params={"organization-id": "{organization_id}"},
        takes_page_size=True,
        look_up="/api/v2/project/{project_slug}",
        child_context={"organization_id": "organization_id", "id": "project_id", "slug": "project_slug"},
        default_columns=_ORGANIZATION,
    ),
    Stream(
        "pipeline_definition",
        "/api/v2/projects/{project_id}/pipeline-definitions",
        DOCS + "#tag/Pipeline-Definition/operation/listPipelineDefinitions",
        key=("id", "project_id", "organization_id"),
        parent="project",
        child_context={"id": "pipeline_definition_id"},
        parent_columns=_PROJECT,
    ),
    Stream(
        "trigger",
        "/api/v2/projects/{project_id}/pipeline-definitions/{pipeline_definition_id}/triggers",
        DOCS + "#tag/Trigger/operation/listPipelineDefinitionTriggers",
        key=("id", "project_id", "pipeline_definition_id", "organization_id"),
        parent="pipeline_definition",
        not_offered=frozenset({400, 404}),  # for definitions of providers without triggers
        parent_columns={**_PROJECT, "pipeline_definition_id": "pipeline_definition_id"},
        secret_urls=(("event_source", "webhook", "url"),),
    ),
    Stream(
        "schedule",
        "/api/v2/project/{project_slug}/schedule",
        DOCS + "#tag/Schedule/operation/listSchedulesForProject",
        key=("id", "project-slug"),
        parent="project",
        replication_key="updated-at",
        default_columns={"project-slug": "project_slug"},
    ),
    Stream(
        "pipelines",
        "/api/v2/project/{project_slug}/pipeline",
        DOCS + "#tag/Pipeline/operation/listPipelinesForProject",
        replication_key="updated_at",
        child_context={"id": "pipeline_id"},
        status="state",
        final=("created", "errored"),
        ended_at="updated_at",
    ),
    Stream(
        "workflows",
        "/api/v2/pipeline/{pipeline_id}/workflow",
        DOCS + "#tag/Pipeline/operation/listWorkflowsByPipelineId",
        parent="pipelines",
        replication_key="created_at",
        child_context={"id": "workflow_id"},
        status="status",
        final=("success", "failed", "error", "canceled", "unauthorized", "not_run"),
        ended_at="stopped_at",
    ),
    Stream(
        "jobs",
        "/api/v2/workflow/{workflow_id}/job",
        DOCS + "#tag/Workflow/operation/listWorkflowJobs",
        key=("id", "_workflow_id"),
        parent="workflows",
        child_context={"id": "job_id", "job_number": "job_number", "project_slug": "project_slug"},
        parent_columns={"_workflow_id": "workflow_id", "_pipeline_id": "pipeline_id"},
        status="status",
        unfinished=("running", "queued", "not_running", "blocked", "on_hold"),
        ended_at="stopped_at",
    ),
)


def _below_jobs(name: str, path: str, operation: str, **fields: object) -> Stream:
    """A stream that is asked once for each job that has run."""
    return Stream(
        name,
        "/api/v2/project/{project_slug}/" + path,
        DOCS + f"#tag/Job/operation/{operation}",
        parent="jobs",
        parent_columns=_JOB,
        below_final=True,
        not_below={"type": ("approval",)},
        parent_names="job_names",
        is_extra=True,
        **fields,  # type: ignore[arg-type]
    )


_EXTRA = (
    _below_jobs("job_details", "job/{job_number}", "getJobDetails", key=("_job_id",), is_object=True),
    _below_jobs(
        "tests", "{job_number}/tests", "getTests", key=("_job_id", "_index"), identity=(), index_column="_index"
    ),
    _below_jobs(
        "artifacts",
        "{job_number}/artifacts",
        "getJobArtifacts",
        key=("_job_id", "node_index", "path"),
        identity=("node_index", "path"),
    ),
    Stream(
        "insights_workflows",
        "/api/v2/insights/{project_slug}/workflows",
        DOCS + "#tag/Insights/operation/getProjectWorkflowMetrics",
        key=("_project_slug", "name"),
        parent="project",
        params={"all-branches": "true", "reporting-window": "last-90-days"},
        identity=("name",),
        child_context={"name": "workflow_name"},
        parent_columns=_SLUG,
        configured_only=True,
        is_extra=True,
    ),
    Stream(
        "insights_workflow_runs",
        "/api/v2/insights/{project_slug}/workflows/{workflow_name}",
        DOCS + "#tag/Insights/operation/getProjectWorkflowRuns",
        parent="insights_workflows",
        replication_key="created_at",
        params={"all-branches": "true"},
        from_param="start-date",
        to_param="end-date",
        parent_columns={**_SLUG, "_workflow_name": "workflow_name"},
        look_back=timedelta(days=7),  # runs are listed up to a day late, and only once they have ended
        history=timedelta(days=90),
        is_extra=True,
    ),
    Stream(
        "insights_jobs",
        "/api/v2/insights/{project_slug}/workflows/{workflow_name}/jobs",
        DOCS + "#tag/Insights/operation/getProjectWorkflowJobMetrics",
        key=("_project_slug", "_workflow_name", "name"),
        parent="insights_workflows",
        params={"all-branches": "true", "reporting-window": "last-90-days"},
        identity=("name",),
        parent_columns={**_SLUG, "_workflow_name": "workflow_name"},
        is_extra=True,
    ),
    Stream(
        "flaky_tests",
        "/api/v2/insights/{project_slug}/flaky-tests",
        DOCS + "#tag/Insights/operation/getFlakyTests",
        key=("_project_slug", "workflow_name", "job_name", "classname", "test_name"),
        parent="project",
        rows_under=("flaky_tests", "flaky-tests"),
        # For organizations of other kinds than GitHub and Bitbucket; 401, 403, 408 and 429 mean what they always mean.
        not_offered=frozenset(range(400, 500)) - {401, 403, 408, 429},
        identity=("workflow_name", "job_name", "classname", "test_name"),
        parent_columns=_SLUG,
        blank_columns=("workflow_name", "job_name", "classname", "test_name"),
        configured_only=True,
        is_extra=True,
    ),
    Stream(
        "deploy_components",
        "/api/v2/deploy/components",
        DOCS + "#tag/Deploy/operation/listComponents",
        key=("id", "organization_id"),
        parent="collaborations",
        params={"org-id": "{organization_id}"},
        takes_page_size=True,
        child_context={"id": "component_id"},
        parent_columns=_ORGANIZATION,
        is_extra=True,
    ),
    Stream(
        "deploy_versions",
        "/api/v2/deploy/components/{component_id}/versions",
        DOCS + "#tag/Deploy/operation/listComponentVersions",
        key=("component_id", "environment_id", "namespace", "name"),
        parent="deploy_components",
        identity=("environment_id", "namespace", "name"),
        parent_columns={"component_id": "component_id", **_ORGANIZATION},
        blank_columns=("environment_id", "namespace", "name"),
        is_extra=True,
    ),
    Stream(
        "context_variables",
        "/api/v2/context/{context_id}/environment-variable",
        DOCS + "#tag/Context/operation/listEnvironmentVariablesFromContext",
        key=("context_id", "variable"),
        parent="context",
        identity=("variable",),
        parent_columns={"context_id": "context_id", **_ORGANIZATION},
        left_out=("truncated_value", "value"),
        is_extra=True,
    ),
    Stream(
        "context_restrictions",
        "/api/v2/context/{context_id}/restrictions",
        DOCS + "#tag/Context/operation/getContextRestrictions",
        key=("context_id", "id"),
        parent="context",
        parent_columns={"context_id": "context_id", **_ORGANIZATION},
        is_extra=True,
    ),
    Stream(
        "project_variables",
        "/api/v2/project/{project_slug}/envvar",
        DOCS + "#tag/Project/operation/listEnvVars",
        key=("_project_slug", "name"),
        parent="project",
        identity=("name",),
        parent_columns=_SLUG,
        left_out=("value",),
        configured_only=True,
        is_extra=True,
    ),
    Stream(
        "checkout_keys",
        "/api/v2/project/{project_slug}/checkout-key",
        DOCS + "#tag/Project/operation/listCheckoutKeys",
        key=("_project_slug", "fingerprint"),
        parent="project",
        identity=("fingerprint",),
        parent_columns=_SLUG,
        configured_only=True,
        is_extra=True,
    ),
    Stream(
        "webhooks",
        "/api/v2/webhook",
        DOCS + "#tag/Webhook/operation/getWebhooks",
        parent="project",
        params={"scope-id": "{project_id}", "scope-type": "project"},
        parent_columns={"project_id": "project_id"},
        secret_urls=(("url",),),
        left_out=("signing_secret", "signing-secret"),
        configured_only=True,
        is_extra=True,
    ),
    Stream(
        "usage",
        "/api/v2/organizations/{organization_id}/usage_export_job",
        DOCS + "#tag/Usage/operation/createUsageExport",
        key=("organization_id", "_date", "_id"),
        parent="collaborations",
        replication_key="_date",
        identity=(  # what never changes: a measure may be corrected, a project or branch renamed
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
        look_back=timedelta(days=3),  # figures are corrected
        history=timedelta(days=365),
        is_extra=True,
        is_export=True,
    ),
)

STREAMS: Mapping[str, Stream] = {stream.name: stream for stream in (*_ALWAYS, *_EXTRA)}
"""Every stream by name, in the order in which a run from scratch sends them."""

ROOT = STREAMS["pipelines"]
"""The root of the walk: it and all streams below it are read together, project by project."""
ORGANIZATIONS = STREAMS["collaborations"]
PROJECTS = STREAMS["project"]


def children_of(stream: Stream) -> tuple[Stream, ...]:
    """The streams that have a list below each row of this one."""
    return tuple(child for child in STREAMS.values() if child.parent == stream.name)


def family_of(stream: Stream) -> tuple[Stream, ...]:
    """The stream and all below it."""
    return (stream, *(one for child in children_of(stream) for one in family_of(child)))


WALK = family_of(ROOT)
"""The streams that are read together, in `currently_syncing` under the name of the root."""
WALK_NAMES = frozenset(stream.name for stream in WALK)
