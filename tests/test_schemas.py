"""The schema files: what targets take, and a description of every column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from singer.schema import Schema

import tap_circleci

FILES = sorted(Path(tap_circleci.__file__).with_name("schemas").glob("*.json"))
SCHEMAS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}

#: The key columns, which are never null.
KEYS: dict[str, tuple[str, ...]] = {
    "collaborations": ("id",),
    "context": ("id", "organization_id"),
    "deploy": ("id", "organization_id"),
    "groups": ("id", "organization_id"),
    "project": ("id", "organization_id"),
    "pipeline_definition": ("id", "project_id", "organization_id"),
    "trigger": ("id", "project_id", "pipeline_definition_id", "organization_id"),
    "schedule": ("id", "project-slug"),
    "pipelines": ("id",),
    "workflows": ("id",),
    "jobs": ("id", "_workflow_id"),
    "job_details": ("_job_id",),
    "tests": ("_job_id", "_index"),
    "artifacts": ("_job_id", "node_index", "path"),
    "insights_workflows": ("_project_slug", "name"),
    "insights_workflow_runs": ("id",),
    "insights_jobs": ("_project_slug", "_workflow_name", "name"),
    "flaky_tests": ("_project_slug", "workflow_name", "job_name", "classname", "test_name"),
    "deploy_components": ("id", "organization_id"),
    "deploy_versions": ("component_id", "environment_id", "namespace", "name"),
    "context_variables": ("context_id", "variable"),
    "context_restrictions": ("context_id", "id"),
    "project_variables": ("_project_slug", "name"),
    "checkout_keys": ("_project_slug", "fingerprint"),
    "webhooks": ("id",),
    "usage": ("organization_id", "_date", "_id"),
    "insights_job_days": ("_project_slug", "_workflow_name", "name", "timestamp"),
    "insights_projects": ("organization_id", "project_name"),
    "insights_branches": ("_project_slug", "workflow_name", "branch"),
    "insights_tests": ("_project_slug", "_workflow_name", "job_name", "classname", "test_name"),
    "policy_decisions": ("organization_id", "id"),
    "pipeline_values": ("pipeline_id",),
    "pipeline_configs": ("pipeline_id",),
    "builds": ("_project_slug", "build_num"),
    "steps": ("_job_id", "index", "step"),
    "step_outputs": ("_job_id", "index", "step"),
}
#: What the service gives and nobody should have.
SECRETS = {"value", "truncated_value", "signing_secret", "signing-secret", "bash_command", "output_url"}


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema, also inside others, by its path."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}{name}", field
        yield from fields(field, f"{path}{name}.")
        yield from fields(field.get("items", {}), f"{path}{name}.")


def test_there_is_one_schema_for_each_stream() -> None:
    """The eleven and the 25 beyond them, and no other file."""
    assert SCHEMAS.keys() == KEYS.keys()


@pytest.mark.parametrize("stream", KEYS)
def test_schemas_have_only_constructs_that_targets_take(stream: str) -> None:
    """All but keys is nullable, objects are declared or free, arrays typed, names that all distinguish."""

    def look(schema: dict[str, Any]) -> None:
        assert set(schema) <= {"type", "format", "description", "properties", "items"}
        null, kind = schema["type"]
        assert null == "null"
        assert kind in ("string", "integer", "number", "boolean", "object", "array")
        assert schema.get("format") in (None, "date-time")
        assert schema.get("properties") != {}
        assert ("items" in schema) == (kind == "array")
        if kind == "array":
            look(schema["items"])
        for field in schema.get("properties", {}).values():
            look(field)

    properties = SCHEMAS[stream]["properties"]
    assert set(SCHEMAS[stream]) == {"type", "properties"}
    names = [name.lower().replace("-", "_") for name in properties]
    assert len(names) == len(set(names))
    for name, field in properties.items():
        if name not in KEYS[stream]:
            look(field)


@pytest.mark.parametrize("stream", KEYS)
def test_keys_are_plain(stream: str) -> None:
    """A key column is never null: a text, a whole number or the day of a usage row."""
    for name in KEYS[stream]:
        field = {key: value for key, value in SCHEMAS[stream]["properties"][name].items() if key != "description"}
        assert field in (
            {"type": "string"},
            {"type": "integer"},
            {"type": "string", "format": "date-time"},
        )


@pytest.mark.parametrize("stream", KEYS)
def test_every_field_is_described_in_a_short_sentence(stream: str) -> None:
    """Each field says what it means, and the catalog keeps it."""
    for path, field in fields(SCHEMAS[stream]):
        text = field.get("description", "")
        assert 3 <= len(text.split()) <= 30, path
        assert text.endswith("."), path
        assert text[0].isupper() or text[0].isdigit(), path
    assert Schema.from_dict(SCHEMAS[stream]).to_dict() == SCHEMAS[stream]


def test_columns_beyond_the_eleven_have_no_hyphen_and_no_secret() -> None:
    """The 25 spell with underscores, and leave secrets out."""
    for stream in list(KEYS)[11:]:
        assert not SCHEMAS[stream]["properties"].keys() & SECRETS
        assert not any("-" in path for path, _ in fields(SCHEMAS[stream]))


def test_usage_has_the_columns_of_an_export() -> None:
    """48 columns and the two that make a row's key."""
    assert len(SCHEMAS["usage"]["properties"]) == 50
