"""The streams as data. To add a stream, add a value to one of these modules and a schema file of the same name.

Other modules know only a few streams by name: the constants below.
"""

from collections.abc import Collection, Mapping

from tap_circleci.streams import builds, insights, organizations, pipelines, usage
from tap_circleci.streams.stream import Stream

__all__ = [
    "BUILDS",
    "EXTRA",
    "ORGANIZATIONS",
    "PROJECTS",
    "ROOT",
    "STREAMS",
    "WALK",
    "WALK_NAMES",
    "WORKFLOWS",
    "Stream",
    "children_of",
    "family_of",
    "is_limited",
    "is_needed",
    "is_read_once",
]

STREAMS: Mapping[str, Stream] = {
    stream.name: stream
    for stream in (
        *organizations.ALWAYS,
        *pipelines.ALWAYS,
        *pipelines.INSIDE_JOBS,
        *insights.INSIGHTS,
        *organizations.DEPLOYS,
        *organizations.SETTINGS,
        *usage.USAGE,
        *insights.SUMMARIES,
        *organizations.POLICIES,
        *pipelines.INSIDE_PIPELINES,
        *builds.V1,
    )
}
"""Every stream by name, in the order of a first sync."""

EXTRA = tuple(name for name, stream in STREAMS.items() if stream.is_extra)
"""The streams that are discovered and synced only if the config names them."""

_CHILDREN = {name: tuple(one for one in STREAMS.values() if one.parent == name) for name in STREAMS}
"""The children of each stream; needed for each row, so computed once."""

ROOT = STREAMS["pipelines"]
"""The root of the walk: it and all streams below it are read together, project by project."""
ORGANIZATIONS = STREAMS["collaborations"]
PROJECTS = STREAMS["project"]
WORKFLOWS = STREAMS["workflows"]
BUILDS = STREAMS["builds"]
"""These two show which pipelines have news: see `reading.reruns`."""


def children_of(stream: Stream) -> tuple[Stream, ...]:
    """The streams that have a list below each row of this one."""
    return _CHILDREN[stream.name]


def family_of(stream: Stream) -> tuple[Stream, ...]:
    """The stream and all below it."""
    return (stream, *(one for child in children_of(stream) for one in family_of(child)))


def is_needed(stream: Stream, extra: Collection[str]) -> bool:
    """Whether a sync of the default streams and these extra ones reads a stream, for itself or for one below it."""
    return not stream.is_extra or any(one.name in extra for one in family_of(stream))


def is_read_once(stream: Stream) -> bool:
    """Whether the list of a stream, or of an ancestor, is directly below pipelines and never changes."""
    while stream.parent not in (None, ROOT.name):
        stream = STREAMS[str(stream.parent)]
    return stream.timing.once


def is_limited(stream: Stream) -> bool:
    """Whether `job_names` in the config limits a stream or one above it."""
    return stream.timing.by_job_name or (stream.parent is not None and is_limited(STREAMS[stream.parent]))


WALK = family_of(ROOT)
"""The streams that are read together; in `currently_syncing` they have the name of the root."""
WALK_NAMES = frozenset(stream.name for stream in WALK)
