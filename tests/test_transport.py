"""One exchange below the client: files are unpacked in blocks of any size, and proxies and certificates are used."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci.http.transport import BLOCK, Certificates, Failed, Untrusted, session, unpacked
from tests.wire import certificate

CONTENTS = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda line, times: line * times, st.binary(min_size=1, max_size=9), st.integers(0, 60_000)),
)


def cut_up(whole: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in blocks of these sizes, the last one for all that is left."""
    start = 0
    for size in sizes:
        if whole[start : start + size]:
            yield whole[start : start + size]
        start += size
    if whole[start:]:
        yield whole[start:]


@settings(max_examples=200)
@given(st.lists(CONTENTS, min_size=1, max_size=3), st.lists(st.integers(1, 70_000), max_size=9), st.booleans())
def test_a_gzip_file_is_unpacked_in_blocks_of_bounded_size(contents, sizes, padded):
    """This holds for any content, any number of members and any division into blocks."""
    packed = b"".join(map(gzip.compress, contents)) + (b"\0" * 7 if padded else b"")
    pieces = list(unpacked(cut_up(packed, sizes)))
    assert b"".join(pieces) == b"".join(contents)
    assert all(0 < len(piece) <= BLOCK for piece in pieces)


@given(CONTENTS, st.lists(st.integers(1, 70_000), max_size=9), st.data())
def test_a_cut_gzip_file_is_noticed(content, sizes, data):
    """A gzip file that ends too early at any byte, also in the trailer, is an error."""
    packed = gzip.compress(content)
    end = data.draw(st.integers(2, len(packed) - 1))
    with pytest.raises(Failed):
        list(unpacked(cut_up(packed[:end], sizes)))


@given(CONTENTS.filter(lambda content: content[:2] != b"\x1f\x8b"), st.lists(st.integers(1, 70_000), max_size=9))
def test_what_is_no_gzip_file_comes_as_it_is(content, sizes):
    """No byte of another file is lost, also if it has none or one."""
    assert b"".join(unpacked(cut_up(content, sizes))) == content


def test_a_session_takes_proxies_from_the_environment_once(monkeypatch):
    """The proxy of a host is chosen when the session is made; loopback has none."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    made = [
        session(url, {}, Certificates())
        for url in ("https://circleci.com", "https://inside.example", "https://127.0.0.1")
    ]
    assert [one.proxies.get("https") for one in made] == ["http://proxy.example:3128", None, None]
    assert not any(one.trust_env for one in made)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_are_those_that_the_environment_names(variable, tmp_path: Path, monkeypatch):
    """A file or a folder of certificates; without either variable those that come with requests."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert len(Certificates().context().get_ca_certs()) > 50
    monkeypatch.setenv(variable, str(certificate(tmp_path)))
    context = Certificates().context()
    assert [dict(sum(one["subject"], ()))["commonName"] for one in context.get_ca_certs()] == ["test"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    monkeypatch.setenv(variable, str(tmp_path))
    assert Certificates().context().get_ca_certs() == []  # those of a folder are read when they are needed


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch):
    """A path that does not exist, or a file of something else, is an error."""
    (tmp_path / "empty.pem").write_text("no certificate")
    for name in ("nowhere.pem", "empty.pem"):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / name))
        with pytest.raises(Untrusted, match=name):
            session("https://circleci.com", {}, Certificates())


def test_all_sessions_share_one_tls_context():
    """The certificates are parsed once, also where many threads begin at the same time, and not at all for http."""
    certificates = Certificates()
    with ThreadPoolExecutor(16) as threads:
        contexts = list(threads.map(lambda _: certificates.context(), range(64)))
    assert len({id(context) for context in contexts}) == 1
