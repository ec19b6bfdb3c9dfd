"""`DONE`: it names every output, and no damage to one goes unseen."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from halos_backend.store.manifest import Manifest, Seals, find_damage, read_done, write_done

TENSORS = b"\x01\x02\x03\x04" * 8


def safetensors(header: bytes | None = None) -> bytes:
    """A file of the format, by its published layout: header length, header, tensors."""
    made = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "weight": {"dtype": "F32", "shape": [8], "data_offsets": [0, len(TENSORS)]},
        }
    ).encode()
    header = made if header is None else header
    return struct.pack("<Q", len(header)) + header + TENSORS


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    (tmp_path / "checkpoint" / "extra").mkdir(parents=True)
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(safetensors())
    (tmp_path / "checkpoint" / "extra" / "template.jinja").write_text("{{ x }}")
    (tmp_path / "rows.jsonl").write_bytes(b"{}\n")
    (tmp_path / "scratch.txt").write_text("no output")
    return tmp_path


def done(attempt: Path, summary: dict[str, Any] | None = None) -> Manifest:
    outputs = [attempt / "checkpoint", attempt / "rows.jsonl"]
    write_done(attempt, outputs, {"num_steps": 3} if summary is None else summary)
    manifest = read_done(attempt)
    assert manifest is not None
    return manifest


def test_every_file_of_every_output_is_named_with_size_and_digest(attempt: Path) -> None:
    manifest = done(attempt)

    assert {entry.name: (entry.bytes, entry.sha256) for entry in manifest.files} == {
        name: (len(content), hashlib.sha256(content).hexdigest())
        for name, content in {
            "checkpoint/extra/template.jinja": b"{{ x }}",
            "checkpoint/model.safetensors": safetensors(),
            "rows.jsonl": b"{}\n",
        }.items()
    }
    assert manifest.summary == {"num_steps": 3}
    assert find_damage(attempt, manifest, full=True) is None


def test_an_attempt_with_a_missing_output_is_not_done(attempt: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_done(attempt, [attempt / "rows.jsonl", attempt / "scores.jsonl"], {})

    assert read_done(attempt) is None


def test_a_missing_file_is_damage(attempt: Path) -> None:
    manifest = done(attempt)
    (attempt / "rows.jsonl").unlink()

    assert "rows.jsonl: No such file" in str(find_damage(attempt, manifest))


def test_a_cut_file_is_damage(attempt: Path) -> None:
    manifest = done(attempt)
    (attempt / "rows.jsonl").write_bytes(b"{}")

    assert "rows.jsonl: 2 bytes, not 3" in str(find_damage(attempt, manifest))


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**62) + safetensors()[8:],
        struct.pack("<Q", 4) + safetensors()[8:],
        b"\0" * len(safetensors()),
        safetensors(b"[]" + b" " * (len(safetensors()) - 8 - len(TENSORS) - 2)),
        safetensors(b'{"weight":{}}'.ljust(len(safetensors()) - 8 - len(TENSORS))),
        safetensors(b'{"w":{"data_offsets":[0,31]}}'.ljust(len(safetensors()) - 8 - len(TENSORS))),
        safetensors(b'{"w":{"data_offsets":[0,33]}}'.ljust(len(safetensors()) - 8 - len(TENSORS))),
    ],
    ids=["longer", "shorter", "zeroed", "a list", "no offsets", "too few bytes", "too many bytes"],
)
def test_a_wrong_safetensors_header_of_the_right_size_is_damage(
    attempt: Path, content: bytes
) -> None:
    manifest = done(attempt)
    assert len(content) == len(safetensors())
    (attempt / "checkpoint" / "model.safetensors").write_bytes(content)

    assert "safetensors" in str(find_damage(attempt, manifest))


@pytest.mark.parametrize("size", range(12))
def test_a_safetensors_file_that_was_short_when_done_was_written_is_damage(
    attempt: Path, size: int
) -> None:
    (attempt / "checkpoint" / "model.safetensors").write_bytes(safetensors()[:size])
    manifest = done(attempt)

    assert "safetensors header" in str(find_damage(attempt, manifest))


def test_one_flipped_byte_is_found_by_the_full_check_only(attempt: Path) -> None:
    manifest = done(attempt)
    content = bytearray(safetensors())
    content[-1] ^= 1
    (attempt / "checkpoint" / "model.safetensors").write_bytes(content)

    assert find_damage(attempt, manifest) is None
    assert "its bytes are not those that were written" in str(
        find_damage(attempt, manifest, full=True)
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"files": []}', b'{"files":[],"summary":{"a":"\xff"}}', b"\0\0"]
)
def test_a_done_that_cannot_be_read_is_no_done(attempt: Path, content: bytes) -> None:
    (attempt / "DONE").write_bytes(content)

    assert read_done(attempt) is None


def test_a_summary_names_its_numbers_that_are_not_finite(attempt: Path) -> None:
    manifest = done(attempt, {"loss_last": float("nan"), "kl_initial": 0.5, "lr_last": -1e400})

    assert manifest.summary == {
        "loss_last": None,
        "kl_initial": 0.5,
        "lr_last": None,
        "non_finite": ["loss_last", "lr_last"],
    }


def test_outputs_may_be_sealed_while_others_are_written(tmp_path: Path) -> None:
    early, late = tmp_path / "early", tmp_path / "late.jsonl"
    early.mkdir()
    (early / "one").write_bytes(b"one")
    seals = Seals()
    seals.begin(early)
    assert seals.digest(early / "one") == hashlib.sha256(b"one").hexdigest()
    late.write_bytes(b"late")
    manifest = write_done(tmp_path, [early, late], {}, seals=seals)
    assert [(entry.name, entry.bytes, entry.sha256) for entry in manifest.files] == [
        ("early/one", 3, hashlib.sha256(b"one").hexdigest()),
        ("late.jsonl", 4, hashlib.sha256(b"late").hexdigest()),
    ]


def test_what_is_known_to_be_on_the_disk_is_not_read_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "long").write_bytes(b"long")
    (state / "short").write_bytes(b"short")
    seals = Seals()
    seals.add(state / "long", "told")
    seals.begin(state)
    manifest = write_done(tmp_path, [state], {}, seals=seals)
    assert [(entry.bytes, entry.sha256) for entry in manifest.files] == [
        (4, "told"),
        (5, hashlib.sha256(b"short").hexdigest()),
    ]


def test_an_output_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Seals().begin(tmp_path / "absent")
    gone = tmp_path / "gone"
    gone.write_bytes(b"")
    seals = Seals()
    seals.begin(gone)
    gone.unlink()
    with pytest.raises(FileNotFoundError):
        write_done(tmp_path, [gone], {}, seals=seals)
    assert not (tmp_path / "DONE").exists()
