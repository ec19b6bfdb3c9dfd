"""Decides which files of a model's directory are copied into the checkpoints that are trained from
it.

Processor files, vocabularies, code, licences: all but weights of any format and what belongs to
them, adapters, trainers' states, hidden files, and files too large to be any of these.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.utils import cached_file

WEIGHTS = frozenset(
    {
        *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".npy"),
        *(".gguf", ".ggml", ".onnx", ".onnx_data", ".h5", ".msgpack", ".ot", ".mlmodel", ".tflite"),
    }
)
NOT_OF_A_MODEL = ("adapter_", "trainer_state", "training_args", "optimizer", "scheduler")
"""Lists what names of adapters and trainers' files begin with."""
LARGEST_BYTES = 64 << 20
OF_PROCESSORS = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
)
"""Lists what transformers does not fetch from the hub with a model or its tokenizer."""


def carried_files(folder: Path) -> list[Path]:
    """Returns the files that go along, sorted: of the folder, and of folders in it that hold no
    others.
    """
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith((".", "__")):
            inner = sorted(entry.iterdir())
            found += inner if all(map(_goes_along, inner)) else []
        elif _goes_along(entry):
            found.append(entry)
    return found


def carry_along(model: str, checkpoint: Path) -> None:
    """Copies the files of `model`, a directory or a hub name, that go along and are not there yet.

    Raises OSError.
    """
    folder = _folder_of(model)
    if folder is None:
        return
    for path in carried_files(folder):
        target = checkpoint / path.relative_to(folder)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)


def _goes_along(path: Path) -> bool:
    name = path.name.lower()
    return (
        path.is_file()
        and not name.startswith((".", *NOT_OF_A_MODEL))
        and not name.endswith(".index.json")
        and path.suffix.lower() not in WEIGHTS
        and path.stat().st_size <= LARGEST_BYTES
    )


def _folder_of(model: str) -> Path | None:
    """Returns where the model's files are on this machine."""
    if Path(model).is_dir():
        return Path(model)
    config = cached_file(
        model, "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False
    )
    return None if config is None else Path(config).parent
