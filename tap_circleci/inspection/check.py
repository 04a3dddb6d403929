"""`--check`: whether the config works, what the token can read, and about how many calls a first sync takes."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from tap_circleci.client import Client, who_am_i
from tap_circleci.config import Config
from tap_circleci.discover import Selected
from tap_circleci.errors import Forbidden, LocalError, NotFound, TapError
from tap_circleci.inspection.estimate import Sample, estimate
from tap_circleci.output.messages import Messages
from tap_circleci.output.outcomes import NO_PROJECT, Outcomes
from tap_circleci.output.report import Report
from tap_circleci.reading.organizations import Organizations
from tap_circleci.reading.paging import WHOLE, Page, pages
from tap_circleci.streams import EXTRA, ORGANIZATIONS, PROJECTS, ROOT, STREAMS, Stream, children_of, is_needed
from tap_circleci.streams.addresses import context_of
from tap_circleci.streams.stream import Download
from tap_circleci.values.rows import Ids
from tap_circleci.values.slugs import normalise
from tap_circleci.values.text import counted, first_few
from tap_circleci.workers import Clock, Pool, result

LOGGER = logging.getLogger(__name__)

PROJECTS_TRIED = 20
"""Projects below which lists are tried; permissions rarely differ between more projects."""
SLUGS_SHOWN = 50
"""Slugs that are shown individually; if there are more, a pattern for each organization is shown."""
OLD_API = "/api/v1.1/"
"""The beginning of the paths of streams that need the older API."""
READABLE = "Extra streams that can be read"
OTHERS = "Also readable, if extra_streams names them"
REFUSED = "Extra streams that cannot be read"
NOT_TRIED = "Not tried"


def check(config: Config, clock: Clock) -> list[str]:
    """Log in a few lines whose token it is and what it can read; gives a sentence for each problem."""
    client = Client(config, clock)
    pool = Pool(config.max_workers)
    report = Report(clock, Messages(Selected({}), clock), client, is_strict=config.strict)
    try:
        _Check(config, clock, client, pool, report).everything()
    except TapError as error:
        report.ended_by(error)
    finally:
        pool.close()
        client.close()
    report.log_skips()
    problems = report.failures
    if problems:
        LOGGER.info("Check failed: %s, listed below.", counted(len(problems), "problems"))
    else:
        LOGGER.info("The config works.")
    return problems


@dataclass(frozen=True)
class _Parent:
    """A row below which lists are requested: its name in messages and the ids that it gives them."""

    name: str
    ids: Ids


@dataclass(frozen=True)
class _Trial:
    """The first page of a stream's list below one parent, or why there is none."""

    stream: Stream
    parent: _Parent
    page: Page | None
    problem: LocalError | None

    @property
    def name(self) -> str:
        """The name of the list in messages."""
        return f"{self.stream.name} of {self.parent.name}"


class _Check:
    """Requests the first page of each list that a sync would read, or of a similar one."""

    def __init__(self, config: Config, clock: Clock, client: Client, pool: Pool, report: Report) -> None:
        self._config = config
        self._clock = clock
        self._client = client
        self._pool = pool
        self._report = report
        self._outcomes = Outcomes(report, client)
        self._organizations = Organizations(config, client, pool, self._wait, self._outcomes, lambda *_: WHOLE)
        self._trials: list[_Trial] = []

    def everything(self) -> None:
        """Log the token, the organizations, the projects, the lists below them, and the calls of a first sync."""
        self._log_token()
        organizations = self._read_organizations()
        named = self._config.project_slugs
        projects = self._named_projects() if named.single or named.patterns else self._seen_projects()
        tried = projects[:PROJECTS_TRIED]
        if len(tried) < len(projects):
            LOGGER.info("Streams are tried in the first %d of %d projects", len(tried), len(projects))
        self._try_below(organizations, children_of(ORGANIZATIONS))
        self._try_below(tried, (*children_of(PROJECTS), ROOT))
        self._log_streams()
        self._log_estimate(len(organizations), len(projects), len(tried))

    def _log_token(self) -> None:
        me = who_am_i(self._client).body
        login = me.get("login") or me.get("name") or me["id"]
        LOGGER.info("Token: accepted by %s, of %s", self._config.base_url, login)

    def _read_organizations(self) -> list[_Parent]:
        rows = self._organizations.organizations()
        found = [_Parent(str(row.get("slug") or row["id"]), context_of(ORGANIZATIONS, row)) for row in rows]
        LOGGER.info("Organizations: %s", ", ".join(parent.name for parent in found) or "none")
        return found

    # The projects

    def _named_projects(self) -> list[_Parent]:
        """The projects that the user names and that exist; only the first of those from patterns are looked up."""
        slugs = self._organizations.slugs()
        single = {*self._config.project_slugs.single}
        looked_up = {
            slug: self._organizations.look_up(slug)
            for place, slug in enumerate(slugs)
            if slug in single or place < PROJECTS_TRIED
        }
        found = []
        for slug in slugs:
            if slug not in looked_up:
                found.append(_Parent(slug, {}))
                continue
            rows = self._wait(looked_up[slug])
            if self._outcomes.judge_project(slug, rows.problem):
                found += [_Parent(slug, {**context_of(PROJECTS, row), "project_slug": slug}) for row in rows.rows]
        if slugs and not found:
            self._outcomes.failed(NO_PROJECT)
        LOGGER.info("Projects: %s", first_few([project.name for project in found]) or "none")
        return found

    def _seen_projects(self) -> list[_Parent]:
        """The projects that the token sees; logs the line for the config that syncs them."""
        rows = [row for listing in self._organizations.read([PROJECTS]) for row in listing.rows]
        found = [
            _Parent(slug, {**context_of(PROJECTS, row), "project_slug": slug})
            for row in rows
            if (slug := normalise(str(row.get("slug")))) is not None
        ]
        slugs = [project.name for project in found]
        if len(slugs) > SLUGS_SHOWN:
            slugs = list(dict.fromkeys(f"{slug.rpartition('/')[0]}/*" for slug in slugs))
        LOGGER.info("Projects: %d; project_slugs is missing, and a sync needs it", len(found))
        if slugs:
            LOGGER.info('To sync them, put this into the config: "project_slugs": "%s"', " ".join(slugs))
        return found

    # The lists

    def _try_below(self, parents: Sequence[_Parent], streams: Sequence[Stream]) -> None:
        """Request the first pages of these streams below these parents, then those below a row of each.

        A stream that the config does not select is tried below one parent only.
        """
        requested = [
            (stream, parent, self._pool.submit((), partial(self._first_page, stream, parent.ids)))
            for stream in streams
            if not (stream.is_export or isinstance(stream.source.answer, Download))
            for parent in (parents if is_needed(stream, self._config.extra_streams) else parents[:1])
            if stream.needs <= parent.ids.keys()
        ]
        trials = [_Trial(stream, parent, *self._wait(page)) for stream, parent, page in requested]
        self._trials += trials
        for stream in streams:
            below = _richest(trial for trial in trials if trial.stream is stream)
            if below is not None and stream is not PROJECTS:
                self._try_below([below], children_of(stream))

    def _first_page(self, stream: Stream, ids: Ids) -> tuple[Page | None, LocalError | None]:
        try:
            return next(pages(self._client, stream, ids, self._config.page_size)), None
        except LocalError as problem:
            return None, problem

    def _log_streams(self) -> None:
        """Log which extra streams can be read; problems of a sync are reported as in a sync."""
        for trial in self._trials:
            if is_needed(trial.stream, self._config.extra_streams):
                self._outcomes.judge(trial.name, trial.stream.name, trial.parent.name, trial.problem)
        lines: dict[str, list[str]] = {READABLE: [], OTHERS: [], REFUSED: [], NOT_TRIED: []}
        for name in EXTRA:
            trials = [trial for trial in self._trials if trial.stream.name == name]
            if any(trial.page for trial in trials):
                lines[READABLE if name in self._config.extra_streams else OTHERS].append(name)
            elif trials:
                lines[REFUSED].append(f"{name} ({_reason(trials[-1].problem)})")
            else:
                lines[NOT_TRIED].append(f"{name} ({_why_not_tried(STREAMS[name])})")
        for what, names in lines.items():
            if names:
                LOGGER.info("%s: %s", what, ", ".join(names))
        old = next((trial for trial in self._trials if trial.stream.source.path.startswith(OLD_API)), None)
        if old is not None:
            LOGGER.info("API v1.1: %s", "can be read" if old.page else f"cannot be read ({_reason(old.problem)})")

    def _log_estimate(self, organizations: int, projects: int, tried: int) -> None:
        """Log about how many calls a first sync makes, judging by the first pages."""
        sample = Sample(
            organizations=organizations,
            projects=projects,
            tried=tried,
            pipelines=[trial.page for trial in self._trials if trial.stream is ROOT and trial.page is not None],
            rows={trial.stream.name: len(trial.page.rows) for trial in self._trials if trial.page is not None},
        )
        LOGGER.info("%s", estimate(sample, self._config))

    def _wait(self, future: Future[Any]) -> Any:
        return result(future, self._clock, self._report.tick)


def _richest(trials: Iterable[_Trial]) -> _Parent | None:
    """The row that gives the most ids to the lists below it, as their parent."""
    found = [
        _Parent(trial.name, {**trial.parent.ids, **context_of(trial.stream, row)})
        for trial in trials
        if trial.page is not None
        for row in trial.page.rows
    ]
    return max(found, key=lambda parent: len(parent.ids), default=None)


def _reason(problem: LocalError | None) -> str:
    if isinstance(problem, Forbidden):
        return f"{problem.status}: permission denied"
    return "404" if isinstance(problem, NotFound) else str(problem)


def _why_not_tried(stream: Stream) -> str:
    if stream.is_export:
        return "CircleCI makes only a few exports an hour"
    if isinstance(stream.source.answer, Download):
        return f"it needs files from rows of {stream.parent}"
    return f"no row of {stream.parent} was found"
