"""Project slugs: one spelling for each, and ids that can be part of a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_circleci.values.slugs import escaped_slug, normalise, pasted, short_host, sort_out, usable_id, usable_slug


@pytest.mark.parametrize(
    ("slug", "found"),
    [
        ("gh/acme/api", "gh/acme/api"),
        ("github/acme/api", "gh/acme/api"),
        ("GitHub/acme/API", "gh/acme/API"),
        ("bitbucket/acme/api", "bb/acme/api"),
        ("circleci/o-1/p-1", "circleci/o-1/p-1"),
        ("gl/acme/api", None),
        ("gh/acme", None),
        ("gh/acme/api/x", None),
        ("gh//api", None),
        ("gh/acme/..", None),
        ("gh/./api", None),
        ("gh/acme/a b", None),
        ("gh/acme/a\x01", None),
        ("gh/acme/\ud83d", None),
        ("", None),
    ],
)
def test_a_slug_has_one_spelling(slug, found):
    """A slug gets the short name of its host; None for a text that is not a slug."""
    assert normalise(slug) == found


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("https://app.circleci.com/pipelines/github/acme/api/123", "gh/acme/api"),
        ("https://app.circleci.com/pipelines/github/acme/api/", "gh/acme/api"),
        ("app.circleci.com/pipelines/gh/acme/api", "gh/acme/api"),
        ("app.circleci.com/pipelines/bitbucket/acme/api?branch=main#top", "bb/acme/api"),
        ("https://app.circleci.com/pipelines/circleci/o-1/p-1/7/workflows/w-1/jobs/9", "circleci/o-1/p-1"),
        ("https://app.circleci.com/pipelines/github/circleci/docs?branch=gh/x/y", "gh/circleci/docs"),
        ("https://app.circleci.com/settings/project/github/acme/my%20api", None),
        ("https://app.circleci.com/settings/project/github/acme/my%2Dapi", "gh/acme/my-api"),
        ("https://circleci.com/gh/acme/api/123", "gh/acme/api"),
        ("http://ci.example.com:8443/pipelines/github/acme/*", "gh/acme/*"),
        ("https://app.circleci.com/pipelines/github/acme", None),
        ("https://app.circleci.com/dashboard", None),
        ("https://[::1/gh/acme/api", None),
        ("gh/acme/api/", "gh/acme/api"),
        ("gh/acme/api-?", "gh/acme/api-?"),
        ("gh/acme/api/123", None),
        ("gh.x/acme/api", None),
    ],
)
def test_a_slug_may_be_pasted_from_the_browser(text, slug):
    """The address of a project or of a page below it, also without https:// or with a slash at the end."""
    assert normalise(pasted(text)) == slug


def test_an_organizations_slug_has_one_spelling():
    """An organization's slug gets the short name of its host; unknown hosts stay as they are."""
    assert [short_host(slug) for slug in ("github/acme", "gh/acme", "circleci/o-1", "gl/acme", "acme")] == [
        "gh/acme",
        "gh/acme",
        "circleci/o-1",
        "gl/acme",
        "acme/",
    ]


def test_slugs_are_sorted_by_what_they_are():
    """They are single slugs, patterns and those to leave out, each once and in their order."""
    found = sort_out([("gh/a/b", False), ("gh/a/*", False), ("gh/a/b", False), ("gh/a/old-*", True), ("gh/a/c", True)])
    assert (found.single, found.patterns, found.excluded) == (("gh/a/b",), ("gh/a/*",), ("gh/a/old-*", "gh/a/c"))
    assert [found.excludes(slug) for slug in ("gh/a/old-x", "gh/a/c", "gh/a/b")] == [True, True, False]


@pytest.mark.parametrize("value", [None, "", " ", ".", "..", " .. ", True, [], {}, 1.5, "\ud83d"])
def test_what_cannot_stand_in_a_path_is_no_id(value):
    """Null, an empty text, `.` and `..`, and values that are neither text nor number are not ids."""
    assert usable_id(value) is None
    assert usable_slug(value) is None


def test_ids_are_texts_or_numbers_and_slugs_have_no_empty_part():
    """A number is an id as well; a slug is an id each of whose parts is one."""
    assert [usable_id(value) for value in ("a/b", 7, 0, "é")] == ["a/b", "7", "0", "é"]
    assert [usable_slug(value) for value in ("gh/a/b", "gh//b", "gh/../b", "/a")] == ["gh/a/b", None, None, None]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_slug_is_data_in_a_path(slug):
    """Every character of a slug but `/` is escaped."""
    assert not set("?#%&; ") & set(escaped_slug(slug).replace("%", ""))
    assert escaped_slug(slug).count("/") == slug.count("/")
