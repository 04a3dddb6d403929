"""Whether a JSON document has the expected shape; if not, where and why, in one sentence for each mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tap_circleci.errors import BadInput
from tap_circleci.values.text import quoted


@dataclass(frozen=True)
class Value:
    """A value that passes a test; `accepted` says which values pass, after "must be"."""

    accepted: str
    passes: Callable[[Any], bool]


@dataclass(frozen=True)
class Items:
    """A list whose items all have one shape."""

    shape: Shape


@dataclass(frozen=True)
class Object:
    """An object with these fields. `required` are those that must not be null; `is_open` allows other fields as well.

    `rule` is what the object as a whole must be, once its fields are right.
    """

    fields: Mapping[str, Shape]
    required: frozenset[str] = frozenset()
    is_open: bool = False
    rule: Value | None = None


@dataclass(frozen=True)
class Entries:
    """An object with any keys that pass a test; `shape` gives the shape of a value by its key and the value itself."""

    shape: Callable[[str, Any], Shape]
    key: Value | None = None


Shape: TypeAlias = "Value | Items | Object | Entries"

ANYTHING = Value("anything", lambda _: True)
TEXT = Value("a text", lambda value: isinstance(value, str))


def check_shape(value: object, shape: Shape, path: str) -> None:
    """Raise `BadInput` with a sentence for each place where a document, read from the file `path`, has another shape.

    null fits any shape.
    """
    mistakes = [f"{path}: {place or 'the content'} {what}." for place, what in _mistakes(value, shape, "")]
    if mistakes:
        raise BadInput(*mistakes)


def _mistakes(value: Any, shape: Shape, place: str) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(shape, Value):
        if not shape.passes(value):
            yield place, _wrong(shape.accepted, value)
    elif isinstance(shape, Items):
        if not isinstance(value, list):
            yield place, _wrong("a list", value)
            return
        for number, item in enumerate(value):
            here = f"{place}[{number}]"
            yield from [(here, "must not be null")] if item is None else _mistakes(item, shape.shape, here)
    elif not isinstance(value, dict):
        yield place, _wrong("an object", value)
    elif isinstance(shape, Entries):
        yield from _in_entries(value, shape, place)
    else:
        found = list(_in_object(value, shape, place))
        yield from found
        if not found and shape.rule is not None and not shape.rule.passes(value):
            yield place, _wrong(shape.rule.accepted, value)


def _in_object(value: Mapping[str, Any], shape: Object, place: str) -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if name in shape.fields:
            yield from _mistakes(item, shape.fields[name], _below(place, name))
        elif not shape.is_open:
            yield _below(place, name), f"is not known; known are {', '.join(sorted(shape.fields))}"
    for name in sorted(shape.required):
        if value.get(name) is None:
            yield _below(place, name), "is missing"


def _in_entries(value: Mapping[str, Any], shape: Entries, place: str) -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        below = _below(place, key)
        if shape.key is not None and not shape.key.passes(key):
            yield below, _wrong(shape.key.accepted, key)
        else:
            yield from _mistakes(item, shape.shape(key, item), below)


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _wrong(accepted: str, value: object) -> str:
    return f"must be {accepted}, found {quoted(value)}"
