"""The eleven streams as data: where they are read, what identifies a row, what a row gives its children."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter

DOCS = "https://circleci.com/docs/api/v2/"


@dataclass(frozen=True)
class Stream:
    """One table and the endpoint that fills it.

    `path` and the values of `params` are templates over the ids that the ancestors' rows give (`gives`: id -> column).
    `adds` puts such ids into the rows (column -> id); `fills` does so only where the answer has no such field.
    `look_up` is where one row can be had by the project's slug when the list cannot.
    `none_if_refused`: 400 and 404 mean that there are none. `takes_page_size`: the endpoint lets the caller choose.
    `secrets` are paths to URLs whose query is masked. `docs` is the API's page.
    """

    name: str
    path: str
    docs: str
    key: tuple[str, ...] = ("id",)
    parent: str | None = None
    replication_key: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    gives: Mapping[str, str] = field(default_factory=dict)
    adds: Mapping[str, str] = field(default_factory=dict)
    fills: Mapping[str, str] = field(default_factory=dict)
    look_up: str | None = None
    none_if_refused: bool = False
    takes_page_size: bool = False
    secrets: tuple[tuple[str, ...], ...] = ()

    @property
    def replication_method(self) -> str:
        """INCREMENTAL for the streams that have a replication key, FULL_TABLE for the others."""
        return "INCREMENTAL" if self.replication_key else "FULL_TABLE"

    @property
    def needs(self) -> frozenset[str]:
        """The ids of ancestors without which the list cannot be asked for or its rows not be told apart."""
        templates = [self.path, *self.params.values()]
        used = {name for template in templates for _, name, _, _ in Formatter().parse(template) if name}
        return frozenset({*used, *self.adds.values(), *self.fills.values()})


_ORGANIZATION = {"organization_id": "organization_id"}
_PROJECT = {**_ORGANIZATION, "project_id": "project_id"}

_ALL = (
    Stream(
        "collaborations",
        "/api/v2/me/collaborations",
        DOCS + "#tag/User/operation/getCollaborations",
        gives={"organization_id": "id"},
    ),
    Stream(
        "context",
        "/api/v2/context",
        DOCS + "#tag/Context/operation/listContexts",
        key=("id", "organization_id"),
        parent="collaborations",
        params={"owner-id": "{organization_id}", "owner-type": "organization"},
        adds=_ORGANIZATION,
    ),
    Stream(
        "deploy",
        "/api/v2/deploy/environments",
        DOCS + "#tag/Deploy/operation/listEnvironments",
        key=("id", "organization_id"),
        parent="collaborations",
        replication_key="updated_at",
        params={"org-id": "{organization_id}"},
        adds=_ORGANIZATION,
        takes_page_size=True,
    ),
    Stream(
        "groups",
        "/api/v2/organizations/{organization_id}/groups",
        DOCS + "#tag/Groups/operation/getOrganizationGroups",
        key=("id", "organization_id"),
        parent="collaborations",
        adds=_ORGANIZATION,
    ),
    Stream(
        "project",
        "/api/private/project",
        DOCS + "#tag/Project/operation/getProjectBySlug",
        key=("id", "organization_id"),
        parent="collaborations",
        params={"organization-id": "{organization_id}"},
        gives={**_ORGANIZATION, "project_id": "id", "project_slug": "slug"},
        look_up="/api/v2/project/{project_slug}",
        adds=_ORGANIZATION,
        takes_page_size=True,
    ),
    Stream(
        "pipeline_definition",
        "/api/v2/projects/{project_id}/pipeline-definitions",
        DOCS + "#tag/Pipeline-Definition/operation/listPipelineDefinitions",
        key=("id", "project_id", "organization_id"),
        parent="project",
        gives={"pipeline_definition_id": "id"},
        adds=_PROJECT,
    ),
    Stream(
        "trigger",
        "/api/v2/projects/{project_id}/pipeline-definitions/{pipeline_definition_id}/triggers",
        DOCS + "#tag/Trigger/operation/listPipelineDefinitionTriggers",
        key=("id", "project_id", "pipeline_definition_id", "organization_id"),
        parent="pipeline_definition",
        adds={**_PROJECT, "pipeline_definition_id": "pipeline_definition_id"},
        none_if_refused=True,  # for definitions of providers without triggers
        secrets=(("event_source", "webhook", "url"),),
    ),
    Stream(
        "schedule",
        "/api/v2/project/{project_slug}/schedule",
        DOCS + "#tag/Schedule/operation/listSchedulesForProject",
        key=("id", "project-slug"),
        parent="project",
        replication_key="updated-at",
        fills={"project-slug": "project_slug"},
    ),
    Stream(
        "pipelines",
        "/api/v2/project/{project_slug}/pipeline",
        DOCS + "#tag/Pipeline/operation/listPipelinesForProject",
        replication_key="updated_at",
        gives={"pipeline_id": "id"},
    ),
    Stream(
        "workflows",
        "/api/v2/pipeline/{pipeline_id}/workflow",
        DOCS + "#tag/Pipeline/operation/listWorkflowsByPipelineId",
        parent="pipelines",
        replication_key="created_at",
        gives={"workflow_id": "id"},
    ),
    Stream(
        "jobs",
        "/api/v2/workflow/{workflow_id}/job",
        DOCS + "#tag/Workflow/operation/listWorkflowJobs",
        key=("id", "_workflow_id"),
        parent="workflows",
        adds={"_workflow_id": "workflow_id", "_pipeline_id": "pipeline_id"},
    ),
)

STREAMS: Mapping[str, Stream] = {stream.name: stream for stream in _ALL}
"""Every stream by name, in the order in which a run from scratch sends them."""

WALK = ("pipelines", "workflows", "jobs")
"""The three that are read together, project by project; in `currently_syncing` under the name of the first."""
