"""Conditional SFT: Korbak et al. 2023, "Pretraining Language Models with Human Preferences".

arXiv 2302.08582, section 2, conditional training. A control text before each completion says its
worth; the loss is then `sft_token_loss` on the whole, good and bad alike, and sampling puts the
good one before every completion. As HALOs, which also prefixes the completion, not the prompt.
"""

from __future__ import annotations


def control_prefix(*, is_desirable: bool, chosen: str, rejected: str) -> str:
    """The control text to put before a completion: `chosen` if desirable, else `rejected`."""
    return chosen if is_desirable else rejected
