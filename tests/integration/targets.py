"""The targets that are tried, and what each does: the table in docs/operations.md, held by tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A target and what a user has to know of it.

    `keeps` is what becomes of rows that come again, `deletes` what ACTIVATE_VERSION does and `empty_text` what an empty
    text becomes, each a key of the words below. Without `line_breaks` control characters in texts are escaped. `limit`
    is the largest row in megabytes, None where one of 25 MB is loaded. `pythons` are those with which its packages were
    installed and started.
    """

    packages: tuple[str, ...]
    pythons: str
    keeps: str
    deletes: str
    advice: str
    empty_text: str = "kept"
    long_keys: bool = True
    line_breaks: bool = True
    session_zone: bool = False
    limit: int | None = None


KEEPS = {
    "versions": "is appended",
    "key": "replaces the old one, by key",
    "last": "is in a new file; the old file is overwritten",
    "sent": "is sent as an upsert, by key",
}
DELETES = {
    "ignored": "stay",
    "removed": "are removed if `hard_delete` is true, else marked in `_sdc_deleted_at`",
    "sent": "are sent on",
    "last": "are not in the new file",
}
EMPTY_TEXT = {
    "kept": "kept",
    "null": "not told from null",
    "fatal": "null; ends the target where it is in a key",
}
TARGETS = {
    "jsonl": Target(
        ("target-jsonl==0.1.4",),
        "3.10 to 3.13",
        "versions",
        "ignored",
        "For a first look, and for files that something else loads.",
    ),
    "csv": Target(
        ("meltanolabs-target-csv==0.5.0",),
        "3.10 to 3.13",
        "last",
        "last",
        "Put `{timestamp}` into `file_naming_scheme` to keep the files of earlier runs.",
        empty_text="null",
    ),
    "duckdb": Target(
        ("target-duckdb==0.8.0", "duckdb==1.0.0"),
        "3.10 to 3.12",
        "key",
        "ignored",
        "Pin `duckdb`: with later versions it loses the first row of most tables and ends with exit 0.",
        empty_text="fatal",
        limit=2,
    ),
    "postgres": Target(
        ("meltanolabs-target-postgres==0.8.1",),
        "3.10 to 3.13",
        "key",
        "removed",
        "The one to take for PostgreSQL, with `PGTZ=UTC`.",
        long_keys=False,
        session_zone=True,
    ),
    "pipelinewise-postgres": Target(
        ("pipelinewise-target-postgres==2.1.2", "setuptools<81"),
        "3.10, 3.11",
        "key",
        "ignored",
        "No release since 2023; it stores a line break in a text as `\\n`. Better take the one above.",
        empty_text="fatal",
        long_keys=False,
        line_breaks=False,
    ),
    "stitch": Target(
        ("target-stitch==4.0.3",),
        "3.10 to 3.13",
        "sent",
        "sent",
        "Tried with `--dry-run`, which makes all of its checks and sends nothing.",
        limit=20,
    ),
}


def table() -> Iterator[str]:
    """The lines of the table, without its head."""
    for target in TARGETS.values():
        cells = (
            " ".join(f"`{package}`" for package in target.packages),
            target.pythons,
            KEEPS[target.keeps],
            DELETES[target.deletes],
            EMPTY_TEXT[target.empty_text],
            "kept" if target.long_keys else "ends the target",
            "in the session's time zone" if target.session_zone else "in UTC",
            f"{target.limit} MB" if target.limit else "over 25 MB",
            target.advice,
        )
        yield f"| {' | '.join(cells)} |"
