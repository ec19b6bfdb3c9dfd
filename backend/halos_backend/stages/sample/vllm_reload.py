"""Does what our engine asks of vLLM's workers; mixed into their class as `worker_extension_cls`."""

from __future__ import annotations

from typing import Any


class ReloadingWorker:
    """Puts new weights in place of the old ones, all of them."""

    def halos_reload(self: Any, weights_path: str) -> None:
        """Takes the safetensors weights at `weights_path`.

        On a CPU the output embeddings are kept packed, and where they are tied to the input
        embeddings reloading does not pack them again.
        """
        from vllm.platforms import current_platform

        self.reload_weights(weights_path=weights_path)
        tied = getattr(self.model_config.hf_text_config, "tie_word_embeddings", False)
        if tied and current_platform.is_cpu():
            head = _output_embeddings(self.model_runner.get_model())
            if head is not None:
                head.quant_method.process_weights_after_loading(head)


def _output_embeddings(model: Any) -> Any | None:
    """Returns the output embeddings of the model itself, or of the language model inside it."""
    inner = getattr(model, "language_model", None)
    return getattr(model, "lm_head", None) or getattr(inner, "lm_head", None)
