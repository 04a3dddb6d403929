"""The path, the parameters and the name in messages of a stream's list below a parent."""

from urllib.parse import quote

from tap_circleci.streams.stream import Stream
from tap_circleci.values.rows import Ids, Row, value_of
from tap_circleci.values.slugs import escaped_slug, usable_id, usable_slug


def context_of(stream: Stream, row: Row) -> dict[str, str]:
    """The ids that a row gives the lists below it, without those that cannot be part of a path."""
    found = {
        name: (usable_slug if name.endswith("_slug") else usable_id)(value_of(row, column))
        for column, name in stream.row.child_context.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def path_of(stream: Stream, ids: Ids) -> str:
    """The path of the stream's list below the parent with these ids."""
    return stream.source.path.format_map({name: _in_path(stream, name, value) for name, value in ids.items()})


def _in_path(stream: Stream, name: str, value: str) -> str:
    if not name.endswith("_slug"):
        return quote(value, safe="")
    host, slash, rest = value.partition("/")
    return escaped_slug(stream.source.hosts.get(host, host) + slash + rest)


def path_to(stream: Stream, row_id: str) -> str:
    """The path of one row of the stream by its id; only for streams with a `look_up`."""
    return str(stream.source.look_up).format_map({stream.row.child_context["id"]: quote(row_id, safe="")})


def params_of(stream: Stream, ids: Ids) -> dict[str, str]:
    """The parameters of the stream's list below the parent with these ids."""
    return {name: value.format_map(ids) for name, value in stream.source.params.items()}


def title_of(stream: Stream, ids: Ids) -> str:
    """The name of a list in messages: `groups of gh/acme (5c6e4337-...)`, with the nearest ancestor that has a slug."""
    owner = owner_of(ids)
    others = [value for name, value in ids.items() if name not in {name for pair in _OWNERS for name in pair}]
    names = [owner, *others] if owner else list(ids.values())
    return " ".join([stream.name, *(["of"] if names else []), *names])


def owner_of(ids: Ids) -> str:
    """The project or organization of a list in messages: the nearest ancestor with a slug, or ""."""
    for slug, own_id in _OWNERS:
        if slug in ids:
            return f"{ids[slug]} ({ids.get(own_id, 'id unknown')})"
    return ""


_OWNERS = (("project_slug", "project_id"), ("organization_slug", "organization_id"))
