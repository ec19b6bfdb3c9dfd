"""What is in the environment stays there; what a run writes is its owner's alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support.place import Place

SECRETS = {
    "HF_TOKEN": "hf_5e9f1c0d7a3b",
    "OPENAI_API_KEY": "sk-live-83d1f0aa62",
    "WANDB_API_KEY": "wandb-77aa12cd",
}


def command_lines() -> list[bytes]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes())
            except OSError:
                continue
    return found


def test_no_secret_of_the_environment_is_written_or_passed_on_a_command_line(
    plain_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    secrets = [value.encode() for value in SECRETS.values()]
    config = str(plain_place.config(loop__num_rounds=1))
    client = plain_place.start("run", config, "--no-ui", "--name", "quiet")
    seen = 0
    while client.poll() is None:
        for line in command_lines():
            seen += b"halos_backend" in line
            assert not any(secret in line for secret in secrets)
    stdout, stderr = client.communicate(timeout=60)
    assert client.returncode == 0, stderr
    assert seen > 0, "the run's processes were looked at"

    written = [path for path in plain_place.runs.rglob("*") if path.is_file()]
    assert len(written) > 20
    for content in (stdout.encode(), stderr.encode(), *(path.read_bytes() for path in written)):
        assert not any(secret in content for secret in secrets)


def test_a_run_directory_is_open_to_its_owner_alone(whole: Place) -> None:
    run = whole.runs / "whole"
    for path in (run, run / "control", run / "control" / "done"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
