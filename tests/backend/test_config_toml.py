"""Settings written as TOML are read back as they were."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from halos_backend.config.load import parse_settings
from halos_backend.config.toml_text import dump_toml, format_value
from hypothesis import given
from hypothesis import strategies as st

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
)
TABLES = st.recursive(
    st.dictionaries(st.text(alphabet="ab _.é", min_size=1), SCALARS | st.lists(SCALARS)),
    lambda inner: st.dictionaries(st.text(alphabet="xy", min_size=1), inner, min_size=1),
    max_leaves=8,
)


@given(TABLES)
def test_tables_are_read_back_as_they_were(table: dict[str, Any]) -> None:
    assert tomllib.loads(dump_toml(table)) == table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-6, "5e-6"),
        (1e16, "1e+16"),
        (0.1, "0.1"),
        (True, "true"),
        (["a", 1], '["a", 1]'),
        ("\x7f\x1b\n", r'"\u007f\u001b\n"'),
        ({"a b": 1}, '{"a b" = 1}'),
    ],
)
def test_values_are_written_as_a_person_would(value: object, text: str) -> None:
    assert format_value(value) == text


def test_what_is_unset_is_left_out() -> None:
    assert dump_toml({"a": None, "t": {"b": None}, "u": {"c": 1}}) == "[t]\n\n[u]\nc = 1\n"


def test_a_date_is_no_value_of_settings() -> None:
    with pytest.raises(TypeError, match="no TOML value: complex"):
        format_value(1j)


def test_settings_survive_a_run_file() -> None:
    table = {
        "policy": {"path": "org/p"},
        "prompts": {"path": "org/q"},
        "label": {
            "judge": {"kind": "reward_model", "path": "org/r"},
            "feedback": {"kind": "binary", "threshold": "mean"},
        },
        "train": {"loss": {"kind": "kto"}, "lora": {"target_modules": ["q_proj", "v_proj"]}},
    }
    settings = parse_settings(table, source="here")
    assert parse_settings(tomllib.loads(dump_toml(settings)), source="again") == settings
