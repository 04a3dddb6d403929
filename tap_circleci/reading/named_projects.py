"""Finds the listed projects that the user names: by a slug in any spelling, by an id, or by a pattern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tap_circleci.values.patterns import matches
from tap_circleci.values.rows import Row
from tap_circleci.values.slugs import ProjectSlugs, normalise, short_host, usable_id


@dataclass(frozen=True)
class Named:
    """The slugs of the projects that the user names. `is_whole`: all of them were found."""

    slugs: tuple[str, ...]
    is_whole: bool


@dataclass(frozen=True)
class ListedProjects:
    """The projects that the organizations list, by their slugs and by their ids."""

    by_slug: Mapping[str, Row]
    by_id: Mapping[str, Row]

    @staticmethod
    def of(rows: Iterable[Row]) -> ListedProjects:
        """The projects in these rows; of two with the same slug or id the first."""
        by_slug: dict[str, Row] = {}
        by_id: dict[str, Row] = {}
        for row in rows:
            slug, project_id = normalise(str(row.get("slug"))), usable_id(row.get("id"))
            if slug is not None:
                by_slug.setdefault(slug, row)
            if project_id is not None:
                by_id.setdefault(project_id.lower(), row)
        return ListedProjects(by_slug, by_id)

    def find(self, slug: str) -> Row | None:
        """The project that has this slug, or the id that the slug ends with."""
        return self.by_slug.get(slug) or self.by_id.get(slug.rpartition("/")[2].lower())


def identity(project: Row) -> str:
    """What identifies a project, however its slug is spelled: its id, or without one its slug."""
    return usable_id(project.get("id")) or str(project.get("slug"))


def matching(pattern: str, organization: Row, projects: Iterable[Row], named: ProjectSlugs) -> list[Row]:
    """The projects of an organization that a pattern such as gh/acme/* matches.

    Without those that the user excludes or names individually by id.
    """
    place, _, wanted = pattern.rpartition("/")
    places = {place, short_host(str(organization.get("slug"))), f"circleci/{organization['id']}"}
    single = {slug.rpartition("/")[2] for slug in named.single}
    found = []
    for project in projects:
        names = _names(project)
        slugs = {str(project.get("slug")), *(f"{at}/{name}" for at in places for name in names)}
        if str(project.get("id")) in single or any(map(named.excludes, slugs)):
            continue
        if any(matches(name, wanted) for name in names):
            found.append(project)
    return found


def _names(project: Row) -> set[str]:
    """The texts that may be the last part of a project's slug."""
    slug = normalise(str(project.get("slug")))
    names = {str(project.get("name")), str(project.get("id"))}
    return names | {slug.rpartition("/")[2]} if slug is not None else names
