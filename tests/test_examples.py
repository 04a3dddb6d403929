"""The examples, compared with the code; tests/integration runs them with the real programs."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from docs.generate import MELTANO, SETTINGS, meltano_file
from tap_circleci.discover import schema_of
from tap_circleci.streams import ROOT, STREAMS, family_of

EXAMPLES = Path(__file__).parent.parent / "examples"
AIRFLOW = EXAMPLES / "airflow" / "circleci.py"
STAGING = EXAMPLES / "dbt" / "models" / "staging"


@pytest.fixture
def airflow(monkeypatch) -> ModuleType:
    """The file of the DAGs, imported without Airflow: the DAGs themselves are not made."""
    task = SimpleNamespace(bash=lambda **_: lambda function: function)
    sdk = SimpleNamespace(dag=lambda **_: lambda _: lambda: None, task=task)
    monkeypatch.setitem(sys.modules, "airflow", SimpleNamespace(sdk=sdk))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    spec = importlib.util.spec_from_file_location("circleci_dag", AIRFLOW)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_groups_of_airflow_read_what_lies_below_the_named_projects(airflow):
    """BY_PROJECT has the streams of the walk and those that are read only for the named projects, each once."""
    roots = [ROOT, *(stream for stream in STREAMS.values() if stream.timing.configured_only)]
    families = {one.name for root in roots for one in family_of(root)}
    assert set(airflow.BY_PROJECT) == families
    assert len(airflow.BY_PROJECT) == len(families)


def test_what_lies_below_organizations_is_read_by_a_run_of_its_own(airflow, monkeypatch, tmp_path):
    """The groups have the streams of BY_PROJECT, the daily run has all others with all slugs."""
    (tmp_path / "config.json").write_text(json.dumps({"project_slugs": "gh/acme/api, gh/acme/web\n!gh/acme/old"}))
    monkeypatch.setattr(airflow, "HOME", tmp_path)
    assert all(run["by_project"] and "!gh/acme/old" in run["slugs"] for run in airflow.groups_of_projects())
    slugs = ["gh/acme/api", "gh/acme/web", "!gh/acme/old"]
    assert airflow.organizations() == [{"name": "organizations", "slugs": slugs, "by_project": False}]


def test_a_pattern_and_the_slugs_that_it_covers_are_one_group_of_airflow(airflow):
    """A host may be spelled in two ways; slugs that no pattern covers are spread, each by its own name."""
    airflow.GROUPS = 10**9
    groups = airflow.dealt(["gh/acme/web-*", "gh/acme/*-api", "github/acme/web-shop", "GH/acme/api", "gh/other/web-1"])
    assert groups["gh/acme/web-*"] == groups["github/acme/web-shop"] == groups["gh/acme/*-api"]
    assert len(set(groups.values())) == 3
    assert airflow.dealt(["github/acme/api"])["github/acme/api"] == groups["GH/acme/api"]


def test_the_meltano_definition_is_that_of_the_code():
    """The settings in the example are what `make docs` writes from the keys of the config."""
    assert SETTINGS.search(MELTANO.read_text(encoding="utf-8"))
    assert meltano_file() == MELTANO.read_text(encoding="utf-8")


@pytest.mark.parametrize("stream", STREAMS)
def test_the_staging_model_of_each_stream_names_every_column(stream):
    """The staging model has every field of the stream's schema, and its key."""
    model = (STAGING / f"stg_circleci__{stream}.sql").read_text(encoding="utf-8")
    columns = re.findall(r"^    '(\w+)': '", model, re.MULTILINE)
    assert set(columns) == {name.replace("-", "_") for name in schema_of(stream)["properties"]}
    (key,) = re.findall(r"key=\[(.*?)\]", model)
    assert re.findall(r"'(\w+)'", key) == [name.replace("-", "_") for name in STREAMS[stream].key]
