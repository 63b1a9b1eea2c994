"""What users say about machines and money, and what becomes of it."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from cloudburst.errors import ConfigError
from cloudburst.providers.provider import Node
from cloudburst.stack.cloud import flavors, keys, openssh
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.quantities import age, dollars, per_hour, rate, seconds, spent
from cloudburst.stack.cloud.settings import Settings, Wishes, resolve
from tests.influx import program


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30m", 1800), ("8h", 28800), ("1h30m", 5400), ("2d", 172800), ("90s", 90), ("0", 0)],
)
def test_spans_of_time(text: str, expected: float) -> None:
    assert seconds(text, "--ttl") == expected


@pytest.mark.parametrize("text", ["8", "h", "8 h", "-8h", "8w", "8h!"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(ConfigError, match="--ttl: write a span of time as 30m"):
        seconds(text, "--ttl")


@pytest.mark.parametrize(("text", "expected"), [("5/h", 5), ("$0.5/h", 0.5), ("48/d", 2), ("0", 0)])
def test_limits_of_cost(text: str, expected: float) -> None:
    assert per_hour(text, "--max-cost") == expected


@pytest.mark.parametrize("text", ["5", "5/w", "h", "-5/h", "5€/h"])
def test_what_is_no_limit_of_cost(text: str) -> None:
    with pytest.raises(ConfigError, match="--max-cost: write US dollars per hour or per day"):
        per_hour(text, "--max-cost")


def test_money_and_ages_are_told_in_words() -> None:
    assert [dollars(0.03571), dollars(0.5), dollars(3.428), dollars(0)] == [
        "$0.03571",
        "$0.50",
        "$3.43",
        "$0.00",
    ]
    assert rate(0.14284) == "$0.14284 per hour, $3.43 per day"
    assert [spent(0), spent(0.004), spent(12.345)] == ["$0.00", "less than $0.01", "$12.35"]
    assert [age(40), age(720), age(11520), age(187200)] == ["40 s", "12 min", "3 h 12 min", "2 d 4 h"]


def test_what_is_not_said_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    first = resolve(
        "floods", Wishes(nodes=3, size="c-8", max_cost="5/h", ttl="8h", allow=("203.0.113.7",)), None
    )
    first.save(path)

    second = resolve("floods", Wishes(nodes=5, idle="30m"), Settings.load(path))

    assert (second.nodes, second.size, second.max_cost_hourly) == (5, "c-8", 5)
    assert (second.ttl_s, second.idle_s, second.allow) == (28800, 1800, ("203.0.113.7/32",))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_is_let_in() -> None:
    said = resolve("floods", Wishes(nodes=1, allow=("203.0.113.9/24", "2001:db8::1")), None)
    again = resolve("floods", Wishes(allow=("auto",)), said)
    seen = Settings(nodes=1, caller=("198.51.100.7/32",))

    assert said.fleet("floods").allow == ("203.0.113.0/24", "2001:db8::1/128")
    assert again.fleet("floods").allow == ()  # until the first contact tells who we are
    assert seen.fleet("floods").allow == ("198.51.100.7/32",)


@pytest.mark.parametrize(
    ("stack", "wishes", "reason"),
    [
        ("floods", Wishes(), "say how many compute nodes"),
        ("Floods", Wishes(nodes=1), "small letters, digits"),
        ("my_stack", Wishes(nodes=1), "small letters, digits"),
        ("x" * 41, Wishes(nodes=1), "at most 40"),
        ("floods", Wishes(nodes=1, allow=("everyone",)), "--allow: 'everyone' is not an address"),
        ("floods", Wishes(nodes=1, min_nodes=5, max_nodes=2), "--min 5 is above --max 2"),
        ("floods", Wishes(nodes=1, min_nodes=5), "--min needs --max"),
        ("floods", Wishes(nodes=1, region="Frankfurt"), "--region: 'Frankfurt'"),
    ],
)
def test_impossible_wishes_are_refused(stack: str, wishes: Wishes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        resolve(stack, wishes, None)


def test_a_file_that_is_none_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text('["floods"]')

    with pytest.raises(ConfigError, match="remove it, and say all flags again"):
        Settings.load(tmp_path / "fleet.json")


def test_the_key_is_one_that_ssh_reads_and_stays_the_same(tmp_path: Path) -> None:
    paths = CloudPaths(tmp_path / "floods")
    paths.make()

    made = keys.ensure(paths)

    assert made.startswith("ssh-ed25519 ")
    assert made.endswith(" cloudburst-floods")
    assert keys.ensure(paths) == made
    assert stat.S_IMODE(paths.key.stat().st_mode) == 0o600
    read = subprocess.run(
        [program("ssh-keygen"), "-y", "-f", str(paths.key)], capture_output=True, text=True, check=True
    )
    assert read.stdout.split()[:2] == made.split()[:2]


def test_ssh_finds_machines_by_name_and_knows_their_keys_by_identity(tmp_path: Path) -> None:
    paths = CloudPaths(tmp_path / "floods")
    paths.make()
    master = Node("floods", "floods-master", "203.0.113.10", identity="11")
    openssh.write(paths, [master, Node("floods", "floods-1", "203.0.113.11", identity="12")])
    paths.known_hosts.write_text("cloudburst-11 ssh-ed25519 AAAA\ncloudburst-12 ssh-ed25519 BBBB\n")

    # Another machine under the name and the address of one that is gone.
    openssh.write(paths, [master, Node("floods", "floods-1", "203.0.113.11", identity="13")])

    asked = [program("ssh"), "-G", "-F", str(paths.ssh_config), "floods-1"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"hostname 203.0.113.11", "user root", "hostkeyalias cloudburst-13"} <= set(said)
    assert paths.known_hosts.read_text() == "cloudburst-11 ssh-ed25519 AAAA\n"


QUOTA = 'maximum = 10\n[flavors]\ns-2vcpu-4gb = 1\n"c-8" = 4\n'


def test_a_quota_is_the_sum_of_weights(tmp_path: Path) -> None:
    (tmp_path / "flavors.toml").write_text(QUOTA)
    quota = flavors.quota({"CLOUDBURST_HOME": str(tmp_path)})

    flavors.check(quota, ["s-2vcpu-4gb", "c-8", "c-8"])
    with pytest.raises(
        ConfigError, match=r"weigh 13 \(1 × s-2vcpu-4gb at 1, 3 × c-8 at 4\), and 10 is the most"
    ):
        flavors.check(quota, ["s-2vcpu-4gb", "c-8", "c-8", "c-8"])
    with pytest.raises(ConfigError, match="size c-32 is not in the table"):
        flavors.check(quota, ["c-32"])


def test_without_the_file_there_is_no_quota(tmp_path: Path) -> None:
    quota = flavors.quota({"CLOUDBURST_HOME": str(tmp_path)})

    flavors.check(quota, ["c-32"] * 100)
    with pytest.raises(ConfigError, match="there is no file /nowhere"):
        flavors.quota({"CLOUDBURST_FLAVORS": "/nowhere"})


@pytest.mark.parametrize(
    "text", ["maximum = 1", "[flavors]\nc-8 = 1", 'maximum = 1\n[flavors]\nc-8 = "x"', "limit = 1", "maximum"]
)
def test_a_quota_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"mine\.toml"):
        flavors.quota({"CLOUDBURST_FLAVORS": str(path)})
