"""Metadata of the package; pyproject.toml says how it is built and checked."""

import re
from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
# Away from the repository, whose address is not fixed yet, its pictures and relative links would lead nowhere.
WITHOUT_PICTURES = re.sub(r"!\[[^\]]*\]\((?!https:)[^)]*\)\n+", "", README)
DESCRIPTION = re.sub(r"\[([^\]]*)\]\((?!https:)[^)]*\)", r"\1", WITHOUT_PICTURES)

setup(
    name="tap-circleci",
    version="1.2.0",
    description="Singer tap for CircleCI: pipelines, workflows, jobs, steps, tests, costs and settings",
    long_description=DESCRIPTION,
    long_description_content_type="text/markdown",
    author="The tap-circleci contributors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["singer", "tap", "circleci", "ci", "etl", "elt", "extract", "meltano", "data warehouse", "dora"],
    python_requires=">=3.10",
    packages=find_packages(include=["tap_circleci", "tap_circleci.*"]),
    package_data={"tap_circleci": ["schemas/*.json", "py.typed"]},
    zip_safe=False,
    install_requires=[
        "singer-python>=6.8,<7",
        "requests>=2.32.3,<3",
        "backoff>=2.2.1,<3",
        "python-dateutil>=2.9,<3",
    ],
    extras_require={
        # dev.lock has the versions that are used here and in CI: `make lock` renews it.
        "dev": [
            "build",
            "codespell",
            "hypothesis",
            "import-linter",
            "mypy",
            "pip-audit",
            "pygal",
            "pytest",
            "pytest-xdist",
            "ruff",
            "setuptools",
            "types-python-dateutil",
            "types-requests",
        ]
    },
    entry_points={"console_scripts": ["tap-circleci=tap_circleci:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Information Technology",
        "Natural Language :: English",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Database",
        "Topic :: Software Development :: Quality Assurance",
        "Typing :: Typed",
    ],
)
