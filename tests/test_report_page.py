"""The demo's report: right figures, well-formed, self-contained."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from demo.report import write
from demo.report.charts import stacked_bars
from demo.report.figures import read
from demo.report.numbers import percentile
from tap_circleci.discover import schema_of

NOW = datetime(2026, 3, 11, 12, tzinfo=timezone.utc)
VOID = {"meta", "wbr"}


class Outline(HTMLParser):
    """What is in a page; it fails where tags are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of one tag."""
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """An element ends: the one that began last."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text, without that of the style sheet."""
        if "style" not in self._open:
            self.text += data + " "


def hours(number: float) -> str:
    """The time so many hours before now, as the tap writes it."""
    return (NOW - timedelta(hours=number)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def small_world(path: Path, **more: list[dict[str, Any]]) -> Path:
    """A database with a failed run and its rerun from failed, a canceled, a running and a never-run one."""

    def workflow(name: str, status: str, begin: float, end: float | None, number: int) -> dict[str, Any]:
        times = {"created_at": hours(begin), "stopped_at": None if end is None else hours(end)}
        return {
            "id": f"W{number}",
            "pipeline_id": "P1",
            "project_slug": "gh/a/b",
            "name": name,
            "status": status,
            **times,
        }

    def job(workflow: str, name: str, status: str, number: int, begin: float, end: float) -> dict[str, Any]:
        times = {"started_at": hours(begin), "stopped_at": hours(end)}
        parents = {"_workflow_id": workflow, "_pipeline_id": "P1", "project_slug": "gh/a/b"}
        return {"id": f"J{number}", "name": name, "status": status, "type": "build", **parents, **times}

    tables: dict[str, list[dict[str, Any]]] = {
        "project": [{"id": "1", "organization_id": "1", "slug": "gh/a/b", "name": "<b> & co"}],
        "pipelines": [{"id": "P1", "vcs": '{"branch": "main", "revision": "abc"}', "created_at": hours(30)}],
        "workflows": [
            workflow("build", "failed", 30, 29, 1),
            workflow("build", "success", 28, 26, 2),
            workflow("build", "canceled", 20, 19.5, 3),
            workflow("build", "running", 1, None, 4),
            workflow("nightly", "not_run", 3, 3, 5),
        ],
        "jobs": [
            job("W1", "unit", "success", 1, 30, 29.5),
            job("W1", "e2e", "failed", 2, 29.5, 29),
            job("W2", "unit", "success", 1, 30, 29.5),
            job("W2", "e2e", "success", 3, 28, 26),
        ],
        **more,
    }
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, rows in tables.items():
            columns = list(schema_of(name)["properties"])
            names = ", ".join(f'"{column}"' for column in columns)
            connection.execute(f"CREATE TABLE {name} ({names})")
            values = [[row.get(column) for column in columns] for row in rows]
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", values)  # noqa: S608 - our own names
    return path


def usage(job: str, credits_used: float, cpu: float, **more: Any) -> dict[str, Any]:
    """A row of usage."""
    measured = {"median_cpu_utilization_pct": cpu, "max_cpu_utilization_pct": cpu, "max_ram_utilization_pct": 30}
    costs = {"total_credits": credits_used, "user_credits": 0}
    name = {"job_name": job, "job_id": job, "project_name": "shop", "resource_class": "large"}
    return {"_date": "2026-03-10T00:00:00.000000Z", **name, **measured, **costs, **more}


def test_the_figures_are_right(tmp_path):
    """Workflows that never ran do not count, a kept job counts once, and a failure that then passed is flaky."""
    figures = read(small_world(tmp_path / "a.db"), NOW)
    assert [(run.workflow, run.result, run.seconds) for run in figures.runs] == [
        ("build", "failed", 3600),
        ("build", "succeeded", 7200),
        ("build", "canceled", 1800),
        ("build", None, None),
    ]
    jobs = {job.name: job for job in figures.jobs}
    assert list(jobs["unit"].seconds) == [1800]
    assert (jobs["e2e"].commits, jobs["e2e"].flaky_commits, jobs["e2e"].wasted) == (1, 1, 1800)
    assert jobs["unit"].flaky_commits == 0
    assert figures.since == datetime(2026, 3, 10).date()


def test_the_page_shows_them(tmp_path):
    """It shows rates, durations and recovery, escapes names, and leaves out sections without rows."""
    write(small_world(tmp_path / "a.db"), tmp_path / "report.html", NOW)
    text = Outline((tmp_path / "report.html").read_text(encoding="utf-8")).text.replace("\u00a0", " ")
    tiles = r"\b4 runs of workflows\s+50 % succeeded\s+50 % succeeded on the default branch\s+1 failures\s+3.0 h mean"
    assert re.search(tiles, text)
    assert "<b> & co" in text
    assert "As of 11 March 2026, 12:00 UTC" in text
    assert "Cost by project" not in text
    assert "Flaky tests" not in text
    assert "Empty:" not in text


def test_it_is_well_formed_and_self_contained(tmp_path):
    """Every tag is closed, every chart has a name, and there are no scripts and no external addresses."""
    write(small_world(tmp_path / "a.db"), tmp_path / "report.html", NOW)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    seen = Outline(page).seen
    assert "http" not in page.replace("http-equiv", "")
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in seen}
    assert not [attributes for _, attributes in seen if {"src", "srcset", "onclick", "onload"} & attributes.keys()]
    anchors = {f"#{attributes['id']}" for _, attributes in seen if "id" in attributes}
    links = {attributes["href"] for _, attributes in seen if "href" in attributes}
    assert links
    assert links <= anchors
    assert not re.search(r"url\(|@import", page)
    charts = [attributes for tag, attributes in seen if tag == "svg"]
    assert len(charts) == 2
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in charts)
    regions = [attributes for _, attributes in seen if attributes.get("role") == "region"]
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in regions)
    assert all("scope" in attributes for tag, attributes in seen if tag == "th")


@pytest.mark.parametrize(("most", "labels"), [(1, [0, 1]), (2, [0, 1, 2]), (3, [0, 1, 2, 3]), (9, [0, 5, 10])])
def test_what_is_counted_has_whole_labels(most, labels):
    """A chart of counts has only whole numbers at its axis."""
    page = Outline(stacked_bars("Runs", [NOW.date()], {"succeeded": [most]}))
    numbers = [word for word in page.text.split() if word.isdigit()]
    assert [int(number) for number in numbers if int(number) in labels][: len(labels)] == labels
    assert "0.5" not in page.text


def test_costs_and_sizes_stand_there_where_usage_is_loaded(tmp_path):
    """Seats are not a project's cost; a job with little use of CPU and RAM is oversized, a busy one undersized."""
    rows = [usage("idle", 1000, 20), usage("busy", 500, 90), usage("fine", 10, 60)]
    seats = {"total_credits": 25000, "user_credits": 25000, "_date": "2026-03-10T00:00:00.000000Z"}
    tests = [{"_project_slug": "gh/a/b", "job_name": "e2e", "test_name": "<logs in>", "times_flaked": 7}]
    database = small_world(tmp_path / "a.db", usage=[*rows, seats], flaky_tests=tests)
    figures = read(database, NOW)
    assert [(cost.project, cost.credits, round(cost.dollars, 3)) for cost in figures.costs] == [("shop", 1510, 0.906)]
    assert [(size.job, size.verdict) for size in figures.sizes] == [("idle", "too large"), ("busy", "too small")]
    write(database, tmp_path / "report.html", NOW)
    text = Outline((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "Cost by project" in text
    assert "<logs in>" in text


def test_a_database_without_rows_gives_a_page(tmp_path):
    """Nothing loaded yet is no error."""
    empty: dict[str, Any] = {name: [] for name in ("project", "pipelines", "workflows", "jobs", "usage")}
    write(small_world(tmp_path / "a.db", **empty), tmp_path / "report.html", NOW)
    text = Outline((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "Empty: project, pipelines, workflows, jobs, usage." in text


def test_a_long_history_is_shown_by_week(tmp_path):
    """After more than six weeks a point is a week, and at most half a year is shown."""
    old = {"id": "W", "project_slug": "gh/a/b", "name": "build", "status": "success"}
    rows = [{**old, "created_at": hours(24 * days), "stopped_at": hours(24 * days - 1)} for days in range(1, 400, 7)]
    figures = read(small_world(tmp_path / "a.db", workflows=rows), NOW)
    assert figures.step == timedelta(weeks=1)
    assert len(figures.steps) == len(figures.runs) == 26
    assert all(step.weekday() == 0 for step in figures.steps)


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 2.5), (0.95, 9.1), (1, 10)])
def test_percentiles_are_interpolated(share, value):
    """They are computed as SQL's percentile_cont does."""
    assert percentile([10, 1, 4, 1], share) == pytest.approx(value)
