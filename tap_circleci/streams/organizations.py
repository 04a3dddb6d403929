"""Organizations, projects and their settings."""

from tap_circleci.streams.stream import DOCS, ByOffset, ByToken, Columns, Items, Source, Stream, Timing

_ORGANIZATION = {"organization_id": "organization_id"}
_PROJECT = {**_ORGANIZATION, "project_id": "project_id"}
_SLUG = {"_project_slug": "project_slug"}


ALWAYS = (
    Stream(
        "collaborations",
        source=Source("/api/v2/me/collaborations", DOCS + "#tag/User/operation/getCollaborations"),
        row=Columns(child_context={"id": "organization_id", "slug": "organization_slug"}),
    ),
    Stream(
        "context",
        key=("id", "organization_id"),
        parent="collaborations",
        source=Source(
            "/api/v2/context",
            DOCS + "#tag/Context/operation/listContexts",
            params={"owner-id": "{organization_id}", "owner-type": "organization"},
        ),
        row=Columns(child_context={"id": "context_id"}, parent_columns=_ORGANIZATION),
    ),
    Stream(
        "deploy",
        key=("id", "organization_id"),
        parent="collaborations",
        replication_key="updated_at",
        source=Source(
            "/api/v2/deploy/environments",
            DOCS + "#tag/Deploy/operation/listEnvironments",
            params={"org-id": "{organization_id}"},
            paging=ByToken(size_param="page-size"),
        ),
        row=Columns(parent_columns=_ORGANIZATION),
    ),
    Stream(
        "groups",
        key=("id", "organization_id"),
        parent="collaborations",
        source=Source(
            "/api/v2/organizations/{organization_id}/groups", DOCS + "#tag/Groups/operation/getOrganizationGroups"
        ),
        row=Columns(parent_columns=_ORGANIZATION),
    ),
    Stream(
        "project",
        key=("id", "organization_id"),
        parent="collaborations",
        source=Source(
            "/api/private/project",
            DOCS + "#tag/Project/operation/getProjectBySlug",
            params={"organization-id": "{organization_id}"},
            look_up="/api/v2/project/{project_slug}",
            paging=ByToken(size_param="page-size"),
        ),
        row=Columns(
            child_context={"organization_id": "organization_id", "id": "project_id", "slug": "project_slug"},
            default_columns=_ORGANIZATION,
        ),
    ),
    Stream(
        "pipeline_definition",
        key=("id", "project_id", "organization_id"),
        parent="project",
        source=Source(
            "/api/v2/projects/{project_id}/pipeline-definitions",
            DOCS + "#tag/Pipeline-Definition/operation/listPipelineDefinitions",
        ),
        row=Columns(child_context={"id": "pipeline_definition_id"}, parent_columns=_PROJECT),
    ),
    Stream(
        "trigger",
        key=("id", "project_id", "pipeline_definition_id", "organization_id"),
        parent="pipeline_definition",
        source=Source(
            "/api/v2/projects/{project_id}/pipeline-definitions/{pipeline_definition_id}/triggers",
            DOCS + "#tag/Trigger/operation/listPipelineDefinitionTriggers",
            not_offered=frozenset({400, 404}),  # definitions of providers without triggers
        ),
        row=Columns(
            parent_columns={**_PROJECT, "pipeline_definition_id": "pipeline_definition_id"},
            secret_urls=(("event_source", "webhook", "url"),),
        ),
    ),
    Stream(
        "schedule",
        key=("id", "project-slug"),
        parent="project",
        replication_key="updated-at",
        source=Source(
            "/api/v2/project/{project_slug}/schedule", DOCS + "#tag/Schedule/operation/listSchedulesForProject"
        ),
        row=Columns(default_columns={"project-slug": "project_slug"}),
    ),
)
"""Organizations, projects and their configuration: always discovered."""

DEPLOYS = (
    Stream(
        "deploy_components",
        key=("id", "organization_id"),
        parent="collaborations",
        source=Source(
            "/api/v2/deploy/components",
            DOCS + "#tag/Deploy/operation/listComponents",
            params={"org-id": "{organization_id}"},
            paging=ByToken(size_param="page-size"),
        ),
        row=Columns(child_context={"id": "component_id"}, parent_columns=_ORGANIZATION),
        is_extra=True,
    ),
    Stream(
        "deploy_versions",
        key=("component_id", "environment_id", "namespace", "name"),
        parent="deploy_components",
        source=Source(
            "/api/v2/deploy/components/{component_id}/versions", DOCS + "#tag/Deploy/operation/listComponentVersions"
        ),
        row=Columns(
            identity=("environment_id", "namespace", "name"),
            parent_columns={"component_id": "component_id", **_ORGANIZATION},
            blank_columns=("environment_id", "namespace", "name"),
        ),
        is_extra=True,
    ),
)
"""Deployments that CircleCI knows."""

SETTINGS = (
    Stream(
        "context_variables",
        key=("context_id", "variable"),
        parent="context",
        source=Source(
            "/api/v2/context/{context_id}/environment-variable",
            DOCS + "#tag/Context/operation/listEnvironmentVariablesFromContext",
        ),
        row=Columns(
            identity=("variable",),
            parent_columns={"context_id": "context_id", **_ORGANIZATION},
            left_out=("truncated_value", "value"),
        ),
        is_extra=True,
    ),
    Stream(
        "context_restrictions",
        key=("context_id", "id"),
        parent="context",
        source=Source(
            "/api/v2/context/{context_id}/restrictions", DOCS + "#tag/Context/operation/getContextRestrictions"
        ),
        row=Columns(parent_columns={"context_id": "context_id", **_ORGANIZATION}),
        is_extra=True,
    ),
    Stream(
        "project_variables",
        key=("_project_slug", "name"),
        parent="project",
        source=Source("/api/v2/project/{project_slug}/envvar", DOCS + "#tag/Project/operation/listEnvVars"),
        row=Columns(identity=("name",), parent_columns=_SLUG, left_out=("value",)),
        timing=Timing(configured_only=True),
        is_extra=True,
    ),
    Stream(
        "checkout_keys",
        key=("_project_slug", "fingerprint"),
        parent="project",
        source=Source("/api/v2/project/{project_slug}/checkout-key", DOCS + "#tag/Project/operation/listCheckoutKeys"),
        row=Columns(identity=("fingerprint",), parent_columns=_SLUG),
        timing=Timing(configured_only=True),
        is_extra=True,
    ),
    Stream(
        "webhooks",
        parent="project",
        source=Source(
            "/api/v2/webhook",
            DOCS + "#tag/Webhook/operation/getWebhooks",
            params={"scope-id": "{project_id}", "scope-type": "project"},
        ),
        row=Columns(
            parent_columns={"project_id": "project_id"},
            secret_urls=(("url",),),
            left_out=("signing_secret", "signing-secret"),
        ),
        timing=Timing(configured_only=True),
        is_extra=True,
    ),
)
"""Variables, keys and webhooks, without their secrets."""

POLICIES = (
    Stream(
        "policy_decisions",
        key=("organization_id", "id"),
        parent="collaborations",
        replication_key="created_at",
        source=Source(
            "/api/v2/owner/{organization_id}/context/config/decision",
            DOCS + "#tag/Policy-Management/operation/GetDecisionLogs",
            paging=ByOffset(),
            answer=Items(()),
            from_param="after",
        ),
        row=Columns(parent_columns=_ORGANIZATION),
        is_extra=True,
    ),
)
"""The decisions of an organization's policies about configs."""
