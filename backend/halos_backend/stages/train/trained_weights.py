"""Decides which weights of a whole model are trained: all of them that a token can meet."""

from __future__ import annotations

from transformers import PreTrainedModel


def train_all(model: PreTrainedModel) -> None:
    """Let the weights be trained; of a model that sees or hears, not those of its other senses.

    Text gives these no gradient, and AdamW would let them decay.
    """
    model.requires_grad_(True)
    body = model.base_model
    if body is model or model.config.get_text_config() is model.config:
        return
    met = {*model.get_decoder().parameters(), *model.get_input_embeddings().parameters()}
    for weight in body.parameters():
        weight.requires_grad_(weight in met)
