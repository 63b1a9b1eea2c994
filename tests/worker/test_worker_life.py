"""What a worker does at its start; how it ends, and what becomes of its jobs, is tested in tests/chaos."""

from __future__ import annotations


def test_two_workers_cannot_share_a_state_directory(stack):
    stack.worker(state="shared")

    second = stack._process(
        "cloudburst.worker",
        {
            "REDIS_PORT": str(stack.redis_server.port),
            "CLOUDBURST_STATE_DIR": str(stack.directory / "shared"),
        },
        "second",
    )

    assert second.wait(20) == 2
    assert "another worker uses" in stack.log("second")
