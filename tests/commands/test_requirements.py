"""What pipenv prints, put into groups; and sources with logins and mirrors."""

from __future__ import annotations

from pipenv.patched.pip._internal.models.index import PyPI

from cloudburst.commands.requirements import Group, groups
from cloudburst.commands.sources import Source, filled, named, sources

MINE, OTHER = Source("mine", "https://mine.example"), Source("other", "https://other.example")
LISTED = """-i https://mine.example
# a comment
six==1.17.0; python_version >= '2.7' --hash=sha256:47 --hash=sha256:48
Fluid_Flow[plots]==1.0
pump==2.0
-e git+https://git.example/x.git@abc#egg=x
gitty @ git+https://git.example/y.git@abc
"""


def test_what_has_hashes_is_installed_apart_from_what_has_none_and_each_from_its_index() -> None:
    found = groups(LISTED, {"fluid-flow": "other", "six": "mine"}, [MINE, OTHER])

    assert found == [
        Group(
            ("six==1.17.0; python_version >= '2.7' --hash=sha256:47 --hash=sha256:48",), True, (MINE, OTHER)
        ),
        Group(("Fluid_Flow[plots]==1.0",), False, (OTHER,)),
        Group(
            (
                "pump==2.0",
                "git+https://git.example/x.git@abc#egg=x",
                "gitty @ git+https://git.example/y.git@abc",
            ),
            False,
            (MINE, OTHER),
        ),
    ]


def test_an_index_that_is_not_among_the_sources_is_that_of_another_machine() -> None:
    assert groups("pump==2.0\n", {"pump": "pip_conf_index"}, []) == [Group(("pump==2.0",), False, ())]


def test_the_mirror_stands_in_for_the_default_source_only() -> None:
    entries = [
        {"name": "pypi", "url": PyPI.simple_url, "verify_ssl": True},
        {"name": "mine", "url": "https://${WHO}:$TOKEN@mine.example/simple", "verify_ssl": False},
    ]

    assert sources(entries, {"WHO": "ada", "TOKEN": "t0ken"}, "http://mirror.example") == [
        Source("pypi", "http://mirror.example"),
        Source("mine", "https://ada:t0ken@mine.example/simple", verify_ssl=False),
    ]


def test_variables_are_found_wherever_they_stand_and_filled_in_where_they_are_known() -> None:
    assert list(named([{"url": "https://${A}:$B@x"}, {"git": "${C}"}, 3])) == ["A", "B", "C"]
    assert filled("${A}-$B", {"A": "1"}) == "1-$B"
