"""The walk as it is written: project by project, pipeline by pipeline, with a state after each page."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tap_circleci.errors import NotFound
from tap_circleci.output.outcomes import NO_PROJECT
from tap_circleci.reading.organizations import Organizations
from tap_circleci.reading.pipelines import Branch, ListEnded, Node, PageDone, Pipeline, ProjectWalk, Walker
from tap_circleci.streams import ROOT, STREAMS
from tap_circleci.sync.run import Run, higher
from tap_circleci.values.text import first_few
from tap_circleci.values.times import whole_seconds
from tap_circleci.walk.seen import MOST_RETRIES, Seen

LOGGER = logging.getLogger(__name__)


@dataclass
class _Project:
    """What the walk of one project has come to.

    `seen` is what the state vouches for, `retries` the pipelines below which something failed, by stream, `highest` the
    highest replication key values sent. `is_stuck`: more has failed than can be named, so the state stays where it is.
    """

    seen: dict[str, Seen]
    retries: dict[str, dict[str, None]]
    highest: dict[str, str] = field(default_factory=dict)
    is_stuck: bool = False


class PipelineWriter:
    """Writes the pipelines of the projects that the user names, and what lies below them."""

    def __init__(self, run: Run, organizations: Organizations) -> None:
        self._run = run
        self._organizations = organizations

    def write(self, selected: list[str]) -> None:
        """All that is new or due in the projects that the user names."""
        self._run.state.currently_syncing = ROOT.name
        for name in selected:
            self._run.messages.schema(name)
        self._run.report.begin_part("finding the projects")
        slugs = self._organizations.slugs()
        self._announce(slugs)
        walker = Walker(
            self._run.config,
            self._run.client,
            self._run.pool,
            self._run.wait,
            self._run.time,
            self._run.start,
            selected,
        )
        seen = {
            slug: {name: one for name, one in streams.items() if name not in self._run.selected.full_table}
            for slug, streams in self._run.state.seen.items()
        }
        missing = number = 0
        project: _Project | None = None
        for event in walker.events(slugs, seen):
            if project is None:
                slug, number = slugs[number], number + 1
                self._run.report.begin_part(
                    f"reading project {number} of {len(slugs)}", f"; {slug}", (number - 1) / len(slugs)
                )
                before = seen.get(slug, {})
                project = _Project(dict(before), {name: dict.fromkeys(one.retry) for name, one in before.items()})
            if isinstance(event, Pipeline):
                self._pipeline(event, project)
            elif isinstance(event, PageDone):
                self._page_done(event, project)
                back_to = f" back to {event.down_to:%Y-%m-%d %H:%M}" if event.down_to else ""
                share = (number - 1 + event.share) / len(slugs)
                self._run.report.progress(f"; {event.walk.slug}{back_to}", share)
            elif isinstance(event, ListEnded):
                missing += self._list_ended(event)
            else:
                self._project_done(event.slug, project)
                project = None
            self._run.messages.flush()
            self._run.report.tick()
        if slugs and missing == len(slugs):
            self._run.outcomes.failed(NO_PROJECT)

    def _announce(self, slugs: list[str]) -> None:
        """Say what is walked, and since when."""
        steps = {
            slug: [one.steps for one in self._run.state.seen.get(slug, {}).values() if one.steps] for slug in slugs
        }
        first = [slug for slug in slugs if not steps[slug]]
        cut = [slug for slug in slugs if any(len(one) > 1 or one[-1].since is not None for one in steps[slug])]
        known = [min(one[0].as_of for one in steps[slug]) for slug in slugs if steps[slug]]
        LOGGER.info("Projects: %d", len(slugs))
        if first:
            LOGGER.info("For the first time, from %s on: %s", whole_seconds(self._run.start), first_few(first))
        if cut:
            LOGGER.info("An earlier run was cut off and is taken up: %s", first_few(cut))
        if known:
            LOGGER.info("Read before, so only what is new or due since %s: %d", whole_seconds(min(known)), len(known))

    def _pipeline(self, event: Pipeline, project: _Project) -> None:
        """A pipeline and what lies below it, depth first."""
        name = str(event.node.row.get("id"))
        failed = self._node(ROOT.name, event.node, event.date or self._run.time.now(), event.walk, project, set())
        for stream in event.asked:
            retry = project.retries.setdefault(stream, {})
            retry.pop(name, None)
            if stream in failed:
                retry[name] = None
        failures = len({name for retry in project.retries.values() for name in retry})
        if failures > MOST_RETRIES and not project.is_stuck:
            project.is_stuck = True
            LOGGER.warning(
                "%s: more than %d pipelines could not be read whole; from here on the next run reads it again",
                event.walk.slug,
                MOST_RETRIES,
            )

    def _node(
        self,
        stream: str,
        node: Node,
        date: datetime,
        walk: ProjectWalk,
        project: _Project,
        done: set[Future[Branch]],
    ) -> frozenset[str]:
        """Send a row, if it is wanted, and the lists below it that are not `done`; gives the streams that lack rows."""
        failed: frozenset[str] = frozenset()
        if node.is_wanted:
            self._send(stream, node.row, date, project)
        for future in node.lists:
            branch: Branch = self._run.wait(future)
            if future in done:
                continue
            done.add(future)
            name = f"{walk.slug}: {branch.name}"
            if not self._run.outcomes.judge(name, branch.stream.name, walk.slug, branch.rows.problem):
                failed |= branch.wanted
            if branch.stream.name in self._run.selected:
                self._run.messages.keyless[branch.stream.name] += branch.rows.broken
            for child in branch.nodes:
                failed |= self._node(branch.stream.name, child, branch.rows.date or date, walk, project, done)
        return failed

    def _send(self, name: str, row: dict[str, Any], date: datetime, project: _Project) -> None:
        record = self._run.messages.convert(name, row)
        if record is None:
            return
        self._run.messages.record(name, record, date)
        replication_key = STREAMS[name].replication_key
        if replication_key is not None:
            project.highest[name] = higher(project.highest.get(name, ""), record[replication_key], date)

    def _page_done(self, event: PageDone, project: _Project) -> None:
        if ROOT.name in self._run.selected:
            self._run.messages.keyless[ROOT.name] += event.broken
        if project.is_stuck or (event.down_to is None and not event.is_last):
            return
        down_to = None if event.is_last else event.down_to
        for name, plan in event.walk.plans.items():
            pending = event.pending if name == ROOT.name else None
            project.seen[name] = plan.after(down_to, pending, tuple(project.retries.get(name, ())))
        self._checkpoint(event.walk.slug, project)

    def _list_ended(self, event: ListEnded) -> bool:
        """Take note of the end of a project's list; tells whether the project does not exist."""
        if event.further is not None:
            self._run.report.looked_back(event.further.days)
        if isinstance(event.problem, NotFound):
            self._run.outcomes.judge_project(event.slug, event.problem)
            return True
        self._run.outcomes.judge(f"{ROOT.name} of {event.slug}", ROOT.name, event.slug, event.problem)
        return False

    def _project_done(self, slug: str, project: _Project) -> None:
        self._run.report.log_not_found(slug)
        if project.is_stuck:
            return
        for name, retry in project.retries.items():
            before = project.seen.get(name, Seen())
            project.seen[name] = replace(before, retry=tuple(retry))
        self._checkpoint(slug, project)

    def _checkpoint(self, slug: str, project: _Project) -> None:
        """Vouch for all that has been sent of a project so far."""
        kept = self._run.state.seen.setdefault(slug, {})
        kept |= {name: one for name, one in project.seen.items() if one != Seen() or name in kept}
        if not kept:
            del self._run.state.seen[slug]
        for name, value in project.highest.items():
            self._run.state.note(name, slug, value)
        self._run.messages.state(self._run.state)
