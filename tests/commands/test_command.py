"""Commands are printed in logs and plans: secrets are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudburst.commands.command import Command, mask


def test_it_prints_as_a_line_for_a_shell() -> None:
    command = Command(("echo", "a b", "$x"), env={"N": "1 2"}, cwd=Path("/srv/my data"))

    assert str(command) == "cd '/srv/my data' && N='1 2' echo 'a b' '$x'"
    assert repr(command) == f"Command({str(command)!r})"


def test_secrets_stdin_and_tokens_are_never_printed() -> None:
    command = Command(
        ("curl", "https://me:hunter2@example.org/files/a?token=hunter3&x=1", "hunter4"),
        stdin="hunter5",
        env={"FILE_HOST_TOKEN": "hunter6", "REDIS_PASSWORD": "hunter7", "CLOUDBURST_SECRET": "hunter8"},
        secrets=("hunter4", ""),
    )

    for printed in (str(command), repr(command), f"{command}", f"{[command]}"):
        assert "hunter" not in printed
    assert str(command).endswith("curl 'https://***@example.org/files/a?token=***&x=1' *** < (7 characters)")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:pw@host:6379/0", "redis://***@host:6379/0"),
        ("https://host/path@v2", "https://host/path@v2"),
        ("mail a@b.org", "mail a@b.org"),
    ],
)
def test_only_logins_in_urls_are_taken_for_such(text: str, masked: str) -> None:
    assert mask(text) == masked
