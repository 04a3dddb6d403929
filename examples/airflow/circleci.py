"""CircleCI on Airflow: hundreds of projects in groups, a mapped task for each, on as many machines as you have.

A folder that all workers share, /opt/circleci or $CIRCLECI_HOME, holds

    config.json   the tap's config with all of your project_slugs, readable by Airflow's user only
    target.json   the config of the target
    runs/NAME/    one for each group, made by this file: its config, catalog, state and what was printed

`tap-circleci` and the target ($CIRCLECI_TARGET, or target-jsonl) are programs on the workers' PATH, each from a
virtualenv of its own. The target is started in the run's folder, so that relative paths in target.json lie there: right
for a target that writes files, since two programs must not append to the same one.

There are two DAGs. `circleci` runs every hour: each group reads the streams below its projects (BY_PROJECT).
`circleci_organizations` runs once a day: one task reads all other streams, such as definitions, triggers and schedules.
These are settings that seldom change, and with many projects most of the calls. If the config names extra streams
directly below projects (builds, insights, variables, keys, webhooks), each group lists the organizations' projects once
in each run.

The name of a project decides its group. So if you add or remove a project, all others keep their group and its state. A
pattern such as gh/acme/* and the projects that it covers are in one group. Projects move to another group only with
another number of GROUPS, or with a new pattern that covers them: they are then read again. After another number of
GROUPS, remove the folder `runs`.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import zlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from shlex import quote

from airflow.sdk import dag, task

HOME = Path(os.environ.get("CIRCLECI_HOME", "/opt/circleci"))
TARGET = os.environ.get("CIRCLECI_TARGET", "target-jsonl")
GROUPS = int(os.environ.get("CIRCLECI_GROUPS", "8"))
AT_ONCE = 4
"""Tasks that run at once on all workers: all share the rate limit of the token."""
HOSTS = {"github": "gh", "bitbucket": "bb"}
BY_PROJECT = (
    *("pipelines", "workflows", "jobs", "job_details", "tests", "artifacts", "steps", "step_outputs"),
    *("pipeline_values", "pipeline_configs", "builds", "flaky_tests"),
    *("insights_workflows", "insights_workflow_runs", "insights_jobs", "insights_job_days", "insights_tests"),
    *("insights_branches", "project_variables", "checkout_keys", "webhooks"),
)
"""The streams below the projects in project_slugs: each group reads those of its own."""

# The last line that the target prints records what it has stored, also if the tap could not deliver everything: then
# the task fails, and the next run reads only what is missing.
PIPE = """
cd {folder} || exit
tap-circleci --config config.json --catalog catalog.json {state} | {target} --config {target_config} > states.jsonl
ended=("${{PIPESTATUS[@]}}")
if [ "${{ended[1]}}" = 0 ] && [ -s states.jsonl ]; then
    tail -n 1 states.jsonl > state.draft && mv state.draft state.json || exit
fi
exit $(( ended[0] ? ended[0] : ended[1] ))
"""


def groups_of_projects() -> list[dict]:
    """What to run every hour: the streams below the projects of each group."""
    slugs = project_slugs()
    left_out = [slug for slug in slugs if slug.startswith("!")]
    groups: dict[str, list[str]] = {}
    for slug, group in sorted(dealt([slug for slug in slugs if slug not in left_out]).items()):
        groups.setdefault(f"group-{group}", []).append(slug)
    return [{"name": name, "slugs": group + left_out, "by_project": True} for name, group in groups.items()]


def organizations() -> list[dict]:
    """What to run every day: all other streams."""
    return [{"name": "organizations", "slugs": project_slugs(), "by_project": False}]


def project_slugs() -> list[str]:
    """The slugs and patterns in config.json."""
    slugs = json.loads((HOME / "config.json").read_text(encoding="utf-8"))["project_slugs"]
    if not isinstance(slugs, str):
        return slugs
    return json.loads(slugs) if slugs.lstrip().startswith("[") else re.split(r"[\s,]+", slugs.strip(" \t\r\n,"))


@task.bash(max_active_tis_per_dag=AT_ONCE, map_index_template="{{ task.op_kwargs['run']['name'] }}")
def sync(run: dict) -> str:
    """Run `tap | target` with the state of this group."""
    folder = HOME / "runs" / run["name"]
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((HOME / "config.json").read_text(encoding="utf-8"))
    write(folder / "config.json", {**config, "project_slugs": run["slugs"]})
    discover = ["tap-circleci", "--config", folder / "config.json", "--discover"]
    catalog = json.loads(subprocess.check_output(discover))  # noqa: S603 - our own program
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = (stream["stream"] in BY_PROJECT) == run["by_project"]
    write(folder / "catalog.json", catalog)
    return PIPE.format(
        folder=quote(str(folder)),
        state="--state state.json" if (folder / "state.json").exists() else "",
        target=quote(TARGET),
        target_config=quote(str(HOME / "target.json")),
    )


def syncs(dag_id: str, schedule: str, what: Callable[[], list[dict]]) -> object:
    """A DAG that runs `tap | target` for each of the runs that `what` gives."""

    @dag(
        dag_id=dag_id,
        schedule=schedule,
        start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        catchup=False,
        max_active_runs=1,  # two runs must not share a state
        tags=["singer"],
    )
    def circleci():
        """Sync CircleCI."""
        sync.expand(run=task(task_id="runs")(what)())

    return circleci()


def dealt(slugs: list[str]) -> dict[str, int]:
    """The number of the group of each slug and pattern; a pattern and what it covers have the same."""
    names = {slug: with_short_host(slug) for slug in slugs}
    patterns = [name for name in names.values() if "*" in name]
    keys = {
        slug: name.rpartition("/")[0] if any(fnmatchcase(name, pattern) for pattern in patterns) else name
        for slug, name in names.items()
    }
    return {slug: zlib.crc32(key.encode()) % GROUPS for slug, key in keys.items()}


def with_short_host(slug: str) -> str:
    """gh/acme/api for github/acme/api: the tap takes them for the same."""
    host, _, rest = slug.partition("/")
    return f"{HOSTS.get(host.lower(), host.lower())}/{rest}"


def write(path: Path, content: object) -> None:
    """Write a file that only its owner may read, for the token in it."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(content), encoding="utf-8")


hourly = syncs("circleci", "@hourly", groups_of_projects)
daily = syncs("circleci_organizations", "@daily", organizations)
