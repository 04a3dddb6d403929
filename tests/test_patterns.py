"""Patterns of names."""

from __future__ import annotations

import pytest

from tap_circleci.values.patterns import JobNames


@pytest.mark.parametrize(
    ("patterns", "wanted", "unwanted"),
    [
        ([], ["build", "", "a b"], []),
        (["build*", "e2e-?"], ["build", "build-all", "e2e-1"], ["e2e-10", "e2e-", "Build", "rebuild", ""]),
        (["!lint"], ["build", "lint2"], ["lint"]),
        (["build*", "!build-docs"], ["build", "build-docs2"], ["build-docs", "lint"]),
        (["deploy to *"], ["deploy to prod"], ["deploy"]),
        (["test [3.12]"], ["test [3.12]"], ["test 3", "test ."]),
        ([" build ", "! lint "], ["build"], ["lint", " build "]),
        (["*"], ["anything", ""], []),
    ],
)
def test_patterns_say_which_jobs_are_wanted(patterns, wanted, unwanted):
    """`*` and `?` match, a bracket is a bracket, ! excludes, and no pattern means all jobs."""
    names = JobNames.of(patterns)
    assert [name for name in wanted if not names.matches(name)] == []
    assert [name for name in unwanted if names.matches(name)] == []
