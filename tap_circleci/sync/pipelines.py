"""Writes the walk: project by project, pipeline by pipeline, with a state after each page."""

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime

from tap_circleci.errors import Forbidden, NotFound
from tap_circleci.output.outcomes import NO_PROJECT
from tap_circleci.reading.organizations import Organizations
from tap_circleci.reading.pipelines import Branch, ListEnded, Node, PageRead, Pipeline, Walker
from tap_circleci.reading.reruns import News
from tap_circleci.state.state import Mark
from tap_circleci.streams import ROOT, STREAMS, family_of, is_limited
from tap_circleci.sync.run import Run, higher
from tap_circleci.values.patterns import matches
from tap_circleci.values.rows import Row
from tap_circleci.values.text import counted, first_few
from tap_circleci.values.times import whole_seconds
from tap_circleci.walk.progress import MOST_RETRIES, Lacking, Progress, merged
from tap_circleci.walk.seen import start_of

LOGGER = logging.getLogger(__name__)


@dataclass(eq=False)
class _Project:
    """A project that is being read: what the state may claim about it, and the highest replication key values sent."""

    slug: str
    number: int
    progress: Progress
    highest: dict[str, str] = field(default_factory=dict)
    news: News | None = None
    done: set[Future[Branch]] = field(default_factory=set)


class PipelineWriter:
    """Writes the pipelines of the projects that the user names, and everything below them."""

    def __init__(self, run: Run, organizations: Organizations, selected: Iterable[str]) -> None:
        self._run = run
        self._organizations = organizations
        self._selected = tuple(selected)
        self._walker = Walker(run.config, run.client, run.pool, run.wait, run.time, run.start)
        self._doubted: list[_Project] = []
        self._marks: Mapping[str, Mapping[str, Mark]] = {}
        self._has_warned = False
        limited = (stream for stream in map(STREAMS.__getitem__, self._selected) if stream.timing.by_job_name)
        self._named = {stream.parent for stream in limited}  # the streams whose rows `job_names` matches
        self._names_read: set[str] = set()

    def write(self) -> None:
        """Write everything that is new or due in the projects that the user names."""
        run = self._run
        run.state.currently_syncing = ROOT.name
        for name in self._selected:
            run.messages.schema(name)
        run.report.begin_part("finding the projects")
        slugs = self._organizations.slugs()
        self._announce(slugs)
        self._marks = {slug: {name: self._mark(name, slug) for name in self._selected} for slug in slugs}
        unread = 0
        numbered = enumerate(slugs)
        project: _Project | None = None
        for event in self._walker.events(self._marks, self._builds(slugs)):
            project = project or self._begin(*next(numbered))
            if isinstance(event, Pipeline):
                self._pipeline(event, project)
            elif isinstance(event, PageRead):
                self._page(event, project)
            elif isinstance(event, ListEnded):
                unread += self._list_ended(event, project)
            elif isinstance(event, News):
                project.news = event
                self._report_news(event, project)
                if not event.workflows:  # no look follows
                    self._keep_number(project)
            else:
                self._project_done(project)
                project = None
            run.messages.flush()
            run.report.tick()
        self._prove()
        if slugs and unread == len(slugs):
            run.outcomes.failed(NO_PROJECT)
        if any(not mark.seen.steps for marks in self._marks.values() for mark in marks.values()):
            self._warn_of_unmatched()

    def _begin(self, number: int, slug: str) -> _Project:
        part = f"reading project {number + 1} of {len(self._marks)}"
        self._run.report.begin_part(part, f"; {slug}", number / len(self._marks))
        return _Project(slug, number, Progress.of({name: mark.seen for name, mark in self._marks[slug].items()}))

    def _mark(self, name: str, slug: str) -> Mark:
        """What the state has about a stream; only its bookmark if it is now limited to other names."""
        mark = self._run.mark(name, slug)
        has_changed = mark.names is not None and mark.names != self._names(name)
        return Mark(mark.value) if has_changed else mark

    def _announce(self, slugs: list[str]) -> None:
        """Log which projects are read, and since when."""
        seen = {slug: [self._run.state.mark(name, slug).seen.steps for name in self._selected] for slug in slugs}
        steps = {slug: [one for one in found if one] for slug, found in seen.items()}
        first = [slug for slug in slugs if not steps[slug]]
        cut = [slug for slug in slugs if any(one[-1].since is not None for one in steps[slug])]
        known = [min(one[0].as_of for one in steps[slug]) for slug in slugs if steps[slug]]
        LOGGER.info("Projects: %d", len(slugs))
        if first:
            LOGGER.info("First sync, from %s: %s", whole_seconds(self._run.start), first_few(first))
        if cut:
            LOGGER.info("Resuming an interrupted run: %s", first_few(cut))
        if known:
            LOGGER.info("Projects synced before: %d; fetching changes since %s", len(known), whole_seconds(min(known)))

    def _warn_of_unmatched(self) -> None:
        """Warn about each pattern of `job_names` that matches none of the jobs that were read."""
        names = sorted(self._names_read)
        for pattern in self._run.config.job_names.wanted if names else ():
            if not any(matches(name, pattern) for name in names):
                found = f"the {counted(len(names), 'names')} that were read: {first_few(names)}"
                self._run.outcomes.left_out(f"job_names: {pattern} matches none of {found}.")

    # A pipeline and everything below it, depth first

    def _pipeline(self, event: Pipeline, project: _Project) -> None:
        date = event.look.date or self._run.time.now()
        project.done.clear()
        progress = project.progress
        progress.looked(event.look, self._node(ROOT.name, event.node, date, project))
        if progress.full() and progress.is_doubted:
            self._prove(project)
        stopped = progress.stop(progress.full())
        if stopped:
            LOGGER.warning(
                "%s: more than %d pipelines could not be read whole; older pipelines are retried in the next run: %s",
                project.slug,
                MOST_RETRIES,
                ", ".join(sorted(stopped)),
            )

    def _node(self, stream: str, node: Node, date: datetime, project: _Project) -> Lacking:
        """Send a row, if it is to be sent, and the lists below it; gives the streams that were not read completely."""
        lacking: Lacking = {}
        if node.is_sent:
            self._send(stream, node.row, date, project)
        for future in node.lists:
            branch: Branch = self._run.wait(future)
            if future not in project.done:  # several workflows may list the same job
                project.done.add(future)
                lacking = merged(lacking, self._branch(branch, date, project))
        return lacking

    def _branch(self, branch: Branch, date: datetime, project: _Project) -> Lacking:
        """Send the rows of a list and everything below them; gives the streams that were not read completely."""
        stream = branch.fetch.stream
        lacking = self._judged(branch, project)
        if stream.name in self._run.selected:
            self._run.messages.keyless[stream.name] += branch.rows.broken
        if stream.name in self._named:
            self._names_read.update(str(row.get("name")) for row in branch.rows.rows)
        for child in branch.nodes:
            lacking = merged(lacking, self._node(stream.name, child, branch.rows.date or date, project))
        return lacking

    def _judged(self, branch: Branch, project: _Project) -> Lacking:
        """Report the answer to a request for a list; gives the streams that were not read completely."""
        stream, problem = branch.fetch.stream, branch.rows.problem
        is_read = self._run.outcomes.judge(f"{project.slug}: {branch.name}", stream.name, project.slug, problem)
        if isinstance(problem, NotFound):
            return dict.fromkeys(branch.fetch.as_of, problem.answered_at)
        if isinstance(problem, Forbidden):
            if self._walker.refusals.have_ended(project.slug, stream):
                project.progress.stop([stream.name])
            return dict.fromkeys(branch.fetch.as_of)
        return {} if is_read else dict.fromkeys(branch.fetch.as_of)

    def _send(self, name: str, row: Row, date: datetime, project: _Project) -> None:
        record = self._run.messages.convert(name, row)
        if record is None:
            return
        self._run.messages.record(name, record, date)
        replication_key = STREAMS[name].replication_key
        if replication_key is not None:
            project.highest[name] = higher(project.highest.get(name, ""), record[replication_key], date)

    # What the state may claim

    def _page(self, event: PageRead, project: _Project) -> None:
        """Record that all pipelines of a page were sent."""
        page = event.page
        if ROOT.name in self._run.selected:
            self._run.messages.keyless[ROOT.name] += page.broken
        project.progress.passed(event.descent, page)
        self._checkpoint(project)
        back_to = f" back to {page.down_to:%Y-%m-%d %H:%M}" if page.down_to else ""
        self._run.report.progress(f"; {project.slug}{back_to}", (project.number + page.share) / len(self._marks))

    def _list_ended(self, event: ListEnded, project: _Project) -> bool:
        """Record the end of a project's list; gives whether the project could not be read at all."""
        if event.further is not None:
            self._run.report.looked_back(event.further.days)
        problem = event.problem
        is_refused = isinstance(problem, Forbidden) and not problem.is_rest
        if is_refused or isinstance(problem, NotFound):
            return not self._run.outcomes.judge_project(project.slug, problem)
        self._run.outcomes.judge(f"{project.slug}: the {ROOT.name}", ROOT.name, project.slug, problem)
        return False

    def _builds(self, slugs: Iterable[str]) -> Mapping[str, Mark]:
        """The marks that say at which number the lists of builds begin; none if they are not to be read."""
        below_root = {child.name for child in family_of(ROOT)[1:] if child.name in self._selected}
        if not self._run.config.find_reruns or not below_root:
            return {}
        return {slug: self._run.state.mark(ROOT.name, slug) for slug in slugs}

    def _report_news(self, news: News, project: _Project) -> None:
        """Report why reruns could not be found."""
        if news.problem is not None and not self._has_warned:
            LOGGER.warning(
                "find_reruns: API v1.1 cannot be read (%s); scheduled re-checks will find reruns", news.problem
            )
            self._has_warned = True
        if news.is_cut:
            LOGGER.info(
                "%s: too many builds since the last sync; scheduled re-checks will find older reruns", project.slug
            )

    def _project_done(self, project: _Project) -> None:
        self._run.report.log_not_found(project.slug)
        project.progress.ended()
        self._keep_number(project)
        self._checkpoint(project)

    def _keep_number(self, project: _Project) -> None:
        """Put into the state at which number the next run begins to read builds."""
        news = project.news
        if news is not None and news.as_of is not None:
            mark = self._run.state.mark(ROOT.name, project.slug)
            kept = replace(mark, next_build=news.next_build, builds_as_of=news.as_of)
            self._run.state.keep(ROOT.name, project.slug, kept)

    def _checkpoint(self, project: _Project) -> None:
        """Write a state with everything of a project that was sent so far, and with the 404s that are now certain."""
        self._settle(project)
        for name, value in project.highest.items():
            self._run.state.note(name, project.slug, value)
        self._run.messages.state(self._run.state)

    def _settle(self, *more: _Project) -> None:
        """Keep what was read of these projects, and accept all 404s from before the last answer that proved the
        token."""
        proven_at = self._run.client.proven_at()
        projects = dict.fromkeys((*self._doubted, *more))
        for project in projects:
            project.progress.settle(proven_at)
            self._keep(project)
        self._doubted = [project for project in projects if project.progress.is_doubted]

    def _prove(self, *more: _Project) -> None:
        """Accept the 404s, if the token is still valid."""
        self._settle(*more)
        self._run.prove_token()
        self._settle()

    def _keep(self, project: _Project) -> None:
        """Put into the state what it may claim about a project."""
        for name, seen in project.progress.seen.items():
            before = self._run.state.mark(name, project.slug)
            start = start_of(seen, self._marks[project.slug][name].start, self._run.start)
            names = self._names(name)
            self._run.state.keep(name, project.slug, replace(before, seen=seen, start=start, names=names))

    def _names(self, name: str) -> tuple[str, ...] | None:
        """The patterns of names that limit a stream; None if nothing can limit it."""
        return self._run.config.job_names.patterns if is_limited(STREAMS[name]) else None
