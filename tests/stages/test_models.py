"""Loading the policy's tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

from halos_backend.config.schema import PolicySettings
from halos_backend.stages.models import load_tokenizer

from tests.stages.train_fixtures import make_policy


def test_a_tokenizer_is_read_again_only_where_its_files_are_others(tmp_path: Path) -> None:
    first = make_policy(tmp_path / "first")
    second = Path(shutil.copytree(first, tmp_path / "second"))
    settings = PolicySettings(path=str(first))
    tokenizer = load_tokenizer(str(first), settings)
    (second / "model.safetensors").write_bytes(b"other weights")
    assert load_tokenizer(str(second), settings) is tokenizer

    (second / "chat_template.jinja").write_text("{{ messages[0]['content'] }} w9")
    other = load_tokenizer(str(second), settings)
    assert other is not tokenizer
    assert other.chat_template.endswith("w9")


def test_another_chat_template_of_the_settings_is_another_tokenizer(tmp_path: Path) -> None:
    policy, template = make_policy(tmp_path / "policy"), tmp_path / "own.jinja"
    template.write_text("{{ messages[0]['content'] }} w8")
    settings = PolicySettings(path=str(policy), chat_template=str(template))
    assert load_tokenizer(str(policy), settings).chat_template.endswith("w8")
    template.write_text("{{ messages[0]['content'] }} w7")
    assert load_tokenizer(str(policy), settings).chat_template.endswith("w7")
