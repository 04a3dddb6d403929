"""Wrong input: a clear sentence, exit 1, nothing on stdout, no request."""

from __future__ import annotations

import functools
import json
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tap_circleci import config
from tap_circleci.config import Config
from tap_circleci.discover import select
from tap_circleci.errors import BadInput
from tap_circleci.state import state
from tap_circleci.streams import EXTRA
from tap_circleci.values.patterns import JobNames
from tap_circleci.values.slugs import ProjectSlugs
from tests.circleci import Server, odd_world
from tests.tap import FastClock, run, sync

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
SOUND = {"token": "s3cret-t0ken", "project_slugs": "gh/acme/api"}


def check(raw: Any, path: str) -> tuple[Config, list[str]]:
    """The config in `raw`, and its unknown keys."""
    return config.check(raw, path), config.unknown(raw)


def checked(**values: Any) -> Config:
    return check({**SOUND, **values}, "config.json")[0]


def test_a_config_has_a_field_for_every_key():
    """What a config holds and what is read from the file are the same keys; each says what it means and accepts."""
    assert list(config.KEYS) == [item.name for item in fields(Config)]
    for key in config.KEYS.values():
        assert key.description.endswith(".")
        assert key.accepted[-1] not in ". "


def test_every_mistake_is_named_at_once(tmp_path: Path):
    """Each wrong item of a list is named, and unknown keys also if something else is wrong."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"project_slugs": "gh/acme gl/x/y gh/ok/api", "max_worker": 3, "job_names": ["", 5]}))
    path.chmod(0o600)
    done = run(["--config", str(path)])
    assert done.status == 1
    assert [told.rpartition(", found ")[2] for told in done.criticals()[1:]] == ['"gh/acme", "gl/x/y".', '"", 5.']
    assert 'unknown keys (ignored): "max_worker"' in done.log


def test_a_default_is_the_same_as_its_value():
    """A key that is left out is the same as its default, written as JSON has it or as a text."""
    for key in config.KEYS.values():
        if key.default is not None and not isinstance(key.default, list):
            assert checked(**{key.name: key.default}) == checked() == checked(**{key.name: str(key.default)})
    assert checked() == checked(**{key.name: None for key in config.KEYS.values() if not key.required})
    assert checked().request_timeout == 60


@pytest.mark.parametrize(
    ("value", "streams"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ("all", EXTRA),
        (["all"], EXTRA),
        ("usage tests", ("tests", "usage")),
        ("usage,\ntests,tests", ("tests", "usage")),
        (["usage"], ("usage",)),
        ('["artifacts", "usage"]', ("artifacts", "usage")),
        ("usage all", EXTRA),
    ],
)
def test_extra_streams_come_in_any_customary_way(value, streams):
    """They come with blanks, commas or newlines between them, as a JSON list, or as all; each counts once."""
    assert checked(extra_streams=value).extra_streams == streams


@pytest.mark.parametrize(
    ("value", "wanted", "unwanted"),
    [
        (None, ["a", "a b"], []),
        ([], ["a", "a b"], []),
        ("build* !build-docs", ["build"], ["build-docs", "lint"]),
        (["deploy to prod", "e2e-?"], ["deploy to prod", "e2e-1"], ["deploy"]),
        ('["deploy to prod"]', ["deploy to prod"], ["deploy"]),
    ],
)
def test_job_names_come_in_any_customary_way(value, wanted, unwanted):
    """They come as a text with blanks or commas, or as a JSON list for names with blanks in them."""
    names = checked(job_names=value).job_names
    assert [names.matches(name) for name in wanted + unwanted] == [True] * len(wanted) + [False] * len(unwanted)


@pytest.mark.parametrize(
    ("value", "slugs"),
    [
        ("gh/a/b", ["gh/a/b"]),
        ("gh/a/b, github/a/c\nbitbucket/a/d", ["gh/a/b", "gh/a/c", "bb/a/d"]),
        (["gh/a/b", "circleci/o-1/p-1"], ["gh/a/b", "circleci/o-1/p-1"]),
        ('["gh/a/b", "gh/a/c"]', ["gh/a/b", "gh/a/c"]),
        ("gh/x/y github/x/y gh/x/y", ["gh/x/y"]),
        (
            "https://app.circleci.com/pipelines/github/x/y/12 gh/x/y/ app.circleci.com/pipelines/gh/x/z",
            ["gh/x/y", "gh/x/z"],
        ),
    ],
)
def test_slugs_come_in_any_customary_way(value, slugs):
    """They come with blanks, commas or newlines between them or as a JSON list; a duplicate counts once."""
    assert list(checked(project_slugs=value).project_slugs.single) == slugs


def test_only_a_look_at_what_the_token_sees_does_without_projects():
    """Only --check and --get work without project_slugs; an empty list counts as a missing key."""
    for value in (None, "", ",", [], "[]"):
        raw = {**SOUND, "project_slugs": value}
        assert config.check(raw, "config.json", ("project_slugs",)).project_slugs == ProjectSlugs()
        with pytest.raises(BadInput, match=r"^config.json: project_slugs is missing; it must be slugs"):
            config.check(raw, "config.json")
    with pytest.raises(BadInput, match=r"project_slugs must be .* found \"acme\"\.$"):
        config.check({**SOUND, "project_slugs": "acme"}, "config.json", ("project_slugs",))


@pytest.mark.parametrize("value", [None, "", " ", ",", [], "[]"])
def test_job_names_without_a_name_mean_all_jobs(value):
    """An empty list means all jobs, as an empty form gives it; an empty name in a list is a mistake."""
    assert checked(job_names=value).job_names == JobNames()


def test_strings_are_read_as_what_they_hold():
    """Runners that send every value as a string get the same config."""
    strings = checked(
        max_workers="8", lookback_days="0.5", request_timeout="30", page_size="10", activate_version="true"
    )
    assert strings == checked(max_workers=8, lookback_days=0.5, request_timeout=30, page_size=10, activate_version=True)
    assert strings.lookback_days == timedelta(hours=12)
    assert checked(start_date="", max_workers=None) == checked()


@pytest.mark.parametrize(
    ("given_url", "root"),
    [
        ("https://ci.example.com/", "https://ci.example.com"),
        ("https://ci.example.com/api/v2", "https://ci.example.com"),
        ("https://ci.example.com:8443/api/v2/", "https://ci.example.com:8443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_base_url_is_the_root_of_a_server(given_url, root):
    """A trailing slash and /api/v2 are accepted."""
    assert checked(base_url=given_url).base_url == root


WRONG = [
    ("token", 5),
    ("token", "two words"),
    ("token", "line\nfeed"),
    ("token", "é"),
    ("token", "half-a-character-\ud800"),
    ("token", functools.reduce(lambda inner, _: [inner], range(5000), [])),
    ("project_slugs", "acme/api"),
    ("project_slugs", "gh/acme"),
    ("project_slugs", "gh/acme/.."),
    ("project_slugs", ["gh/acme/a\x01b"]),
    ("project_slugs", [5]),
    ("project_slugs", {}),
    ("project_slugs", "!gh/acme/api"),
    ("project_slugs", "gh/*/api"),
    ("project_slugs", '["gh/a/b"'),
    ("project_slugs", "gh/acme/\ud800"),
    ("start_date", "yesterday"),
    ("start_date", "2026-02-30"),
    ("start_date", 20260101),
    ("base_url", "http://ci.example.com"),
    ("base_url", "ftp://ci.example.com"),
    ("base_url", "ci.example.com"),
    ("base_url", "https://user:pass@ci.example.com"),
    ("base_url", "https://ci.example.com/?x=1"),
    ("base_url", "https://[::1"),
    ("base_url", "https://circleci..example.com"),
    ("max_workers", 0),
    ("max_workers", 65),
    ("max_workers", "eight"),
    ("max_workers", 1.5),
    ("max_workers", True),
    ("max_workers", functools.reduce(lambda inner, _: [inner], range(5000), [])),
    ("lookback_days", 0),
    ("lookback_days", -1),
    ("lookback_days", "nan"),
    ("request_timeout", 0),
    ("request_timeout", []),
    ("page_size", 51),
    ("user_agent", "a\r\nHost: b"),
    ("activate_version", "perhaps"),
    ("find_reruns", 2),
    ("strict", "yes"),
    ("job_names", [""]),
    ("job_names", ["build", " "]),
    ("job_names", "build !"),
    ("project_slugs", ["gh/a/b", ""]),
    ("extra_streams", "test"),
    ("extra_streams", ["tests", 5]),
    ("extra_streams", {"tests": True}),
    ("extra_streams", "pipelines"),
    ("extra_streams", "[" * 5000),
    ("job_names", ["build", 5]),
    ("job_names", {}),
    ("job_names", 7),
    ("job_names", "build !"),
    ("job_names", ["", "build"]),
    ("project_slugs", "[" * 5000),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_each_mistake_is_named_with_its_key_and_what_is_accepted(key, value):
    """The sentence names the file, the key, what was found (never the token) and what is accepted."""
    with pytest.raises(BadInput) as wrong:
        checked(**{key: value})
    (sentence,) = wrong.value.args
    assert sentence.startswith(f"config.json: {key} must be ")
    assert ("found" in sentence) == (key != "token")
    assert "pass" not in sentence.replace("password", "")


def test_a_token_in_a_wrong_place_is_not_quoted():
    """The value of `token` is hidden wherever else it occurs."""
    with pytest.raises(BadInput) as wrong:
        checked(token='se"cret\\t0ken', project_slugs='se"cret\\t0ken')
    assert "cret" not in str(wrong.value)
    token = "t0ken-that-nobody-may-see-" + "x" * 60
    with pytest.raises(BadInput) as wrong:
        checked(token=token, project_slugs=token, start_date=f"{token}!", base_url=f"https://ci.example?token={token}")
    assert len(wrong.value.args) == 3
    assert "t0ken" not in " ".join(wrong.value.args)
    assert check({**SOUND, "token": token, token: 1}, "config.json")[1] == ['"***"']


def test_all_mistakes_are_named_at_once():
    """The mistakes in config, catalog and state are all named in one run, before any request."""
    with Server(odd_world(NOW)) as server:
        found = sync(server, token=7, max_workers="x", catalog={"streams": 5}, state={"bookmarks": {"jobs": {"a": 1}}})
        assert server.calls == 0
    assert (found.status, found.lines) == (1, ())
    told = found.criticals()
    assert len(told) == 4
    assert [word for word in ("token", "max_workers", "streams", "bookmarks.jobs") if word in " ".join(told)]
    assert "Traceback" not in found.log


def test_missing_keys_are_named():
    """Without token and slugs, both are asked for."""
    with pytest.raises(BadInput) as wrong:
        check({"token": "", "page_size": 10}, "config.json")
    assert [sentence.split()[1] for sentence in wrong.value.args] == ["token", "project_slugs"]


def test_unknown_keys_are_warned_about_by_name_only():
    """A key that means nothing here is named, its value is not shown."""
    with Server(odd_world(NOW)) as server:
        found = sync(server, streams=["collaborations"], tokne="hush")
    assert 'unknown keys (ignored): "tokne"' in found.log
    assert "hush" not in found.log


@pytest.mark.parametrize("content", ["{", "[]", "5", '"x"', "{" * 3000, "1" * 5000, "\x00"])
@pytest.mark.parametrize("role", ["config", "catalog", "state"])
def test_files_that_hold_no_object_are_named(tmp_path: Path, role, content):
    """A file that is empty, cut, or of another type ends the run with the file's name."""
    for name in ("config", "catalog", "state"):
        (tmp_path / name).write_text(
            json.dumps(SOUND if name == "config" else {"streams": []} if name == "catalog" else {})
        )
    (tmp_path / role).write_text(content, encoding="utf-8")
    argv = [part for name in ("config", "catalog", "state") for part in (f"--{name}", str(tmp_path / name))]
    found = run(argv)
    assert (found.status, found.lines) == (1, ())
    assert f"The {role} file {tmp_path / role}" in found.criticals()[0]


@pytest.mark.parametrize("role", ["config", "catalog"])
def test_an_empty_file_is_named(tmp_path: Path, role):
    """A config or a catalog without content is a mistake."""
    for name, content in (("config", json.dumps(SOUND)), ("catalog", '{"streams": []}')):
        (tmp_path / name).write_text("" if name == role else content)
    found = run(["--config", str(tmp_path / "config"), "--catalog", str(tmp_path / "catalog")])
    assert found.criticals() == [f"The {role} file {tmp_path / role} is empty."]


def test_a_config_that_others_can_read_is_warned_about(tmp_path: Path):
    """A world-readable config file gets one warning."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**SOUND, "base_url": "http://127.0.0.1:9", "max_workers": 1}))
    path.chmod(0o644)
    assert run(["--config", str(path)], FastClock()).log.count("chmod 600") == 1


@pytest.mark.parametrize(
    "state",
    [
        {"bookmarks": {"pipelines": {"gh/acme/odd": "2027-01-01T00:00:00Z"}}},
        {"bookmarks": {"jobs": {"gh/acme/odd": {"start_date": "2026-03-12T12:00:00Z"}}}},
    ],
)
def test_a_moment_in_the_future_is_a_mistake(state):
    """A start date or a time in the state that is in the future by the service's clock is refused."""
    with Server(odd_world(NOW)) as server:
        found = sync(server, state=state, start_date="2028-01-01")
        assert server.calls == 1
    assert found.status == 1
    assert [sentence.split(" is ")[0].split(".")[0] for sentence in found.criticals()] == [
        "start_date",
        "The state's bookmarks",
    ]
    assert all("in the future: CircleCI's clock says 2026-03-10T12:00" in sentence for sentence in found.criticals())


NAMES = ["bookmarks", "currently_syncing", "pipelines", "jobs", "usage", "gh/a/b", "x"]
NAMES += ["start_date", "seen", "as_of", "looked_back_to", "since", "pending", "retry", "export", "id", "start", "end"]
NAMES += [
    "streams",
    "tap_stream_id",
    "schema",
    "properties",
    "metadata",
    "breadcrumb",
    "selected",
    "replication-method",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99) | st.text(max_size=8) | st.sampled_from(["gh/a/b", "2026-01-01"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from([*config.KEYS, "bookmarks", "streams", "x"]), json_values),
    json_values,
)
def test_any_json_gives_a_sentence_or_a_value(raw, value):
    """Whatever JSON object a file has, reading it gives a value or a clear sentence, never a traceback."""
    for read in (check, state.read, select):
        for content in (raw, {**raw, "bookmarks": value, "streams": value, **SOUND}):
            try:
                read(content, "file.json")
            except BadInput as wrong:
                assert wrong.args
                assert all(sentence.startswith("file.json: ") for sentence in wrong.args)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "The catalog file {} is empty."),
        (" \n", "The catalog file {} is empty."),
        (
            "{",
            "The catalog file {} is not JSON: Expecting property name enclosed in double quotes in line 1, column 2.",
        ),
        ("[]", "The catalog file {} must hold a JSON object, not a list."),
        ("\ufeff[]", "The catalog file {} must hold a JSON object, not a list."),
        ("[" * 100_000, "The catalog file {} is nested too deeply."),
    ],
)
def test_a_file_that_is_no_json_object_is_named_in_a_sentence(tmp_path: Path, content, told):
    """The sentence names the file, its role, and the place at which it is no longer JSON."""
    path = tmp_path / "catalog.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        config.load_json(str(path), "catalog")
    assert error.value.args == (told.format(path),)
