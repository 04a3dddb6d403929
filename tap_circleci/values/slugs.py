"""Project slugs: one spelling for each project, and patterns for many projects."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from tap_circleci.values.patterns import matches
from tap_circleci.values.text import UNPAIRED

VCS = {"gh": "gh", "github": "gh", "bb": "bb", "bitbucket": "bb", "circleci": "circleci"}
"""The short name of each host that a slug may begin with."""


@dataclass(frozen=True)
class ProjectSlugs:
    """The projects that the user names: single slugs, patterns for whole organizations, and patterns to exclude."""

    single: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def excludes(self, slug: str) -> bool:
        """Whether the user excludes this project (`!gh/acme/legacy-*`)."""
        return any(matches(slug, pattern) for pattern in self.excluded)


def sort_out(slugs: Iterable[tuple[str, bool]]) -> ProjectSlugs:
    """The slugs by their kind, each once and in their order; a slug comes with whether it is excluded."""
    single: dict[str, None] = {}
    patterns: dict[str, None] = {}
    excluded: dict[str, None] = {}
    for slug, leave_out in slugs:
        kind = excluded if leave_out else patterns if "*" in slug else single
        kind[slug] = None
    return ProjectSlugs(tuple(single), tuple(patterns), tuple(excluded))


def normalise(slug: str) -> str | None:
    """A project's slug with the short name of its host (`gh`, `bb`, `circleci`), or None if it is not a slug."""
    vcs, *rest = slug.split("/")
    if vcs.lower() not in VCS or len(rest) != 2:
        return None
    if any(not part or part in (".", "..") or re.search(r"[\x00-\x20\x7f\ud800-\udfff]", part) for part in rest):
        return None
    return "/".join([VCS[vcs.lower()], *rest])


def pasted(text: str) -> str:
    """The slug in an address from a browser, with or without `https://`; any other text without a slash at its end.

    The web app has a project's slug in the path, after other words and before numbers and ids:
    https://app.circleci.com/pipelines/github/acme/api/123/workflows/5c6e4337
    """
    site, *path = re.sub(r"^https?://|[?#].*", "", text).split("/")
    if "." not in site:
        return text.rstrip("/")
    first = next((place for place, part in enumerate(path) if part.lower() in VCS), 0)
    return "/".join(unquote(part) for part in path[first : first + 3])


def short_host(slug: str) -> str:
    """An organization's slug with the short name of its host: `gh/acme` for `github/acme`."""
    vcs, _, rest = slug.partition("/")
    return f"{VCS.get(vcs.lower(), vcs)}/{rest}"


def usable_id(value: object) -> str | None:
    """An id that can be part of a path and a key, or None for null, an empty text, `.` and `..`.

    Records have no NUL characters, so a text of nothing else is empty.
    """
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    return None if text.replace("\0", "").strip() in ("", ".", "..") or UNPAIRED.search(text) else text


def usable_slug(value: object) -> str | None:
    """A slug that can be part of a path, or None: no usable id, or one with an empty part, `.` or `..`."""
    slug = usable_id(value)
    return None if slug is None or {"", ".", ".."}.intersection(slug.split("/")) else slug


def escaped_slug(slug: str) -> str:
    """A slug for use in a path: everything but its `/` is escaped."""
    return quote(slug, safe="/")
