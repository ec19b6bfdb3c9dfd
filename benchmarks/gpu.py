"""Compares our stages with plain programs on a GPU, with a Llama of 1.2 billion parameters.

`python gpu.py` prints one JSON object: training in bf16 on fp32 weights against a trainer that pads
to 1,024, scoring in bf16 against one sequence per forward, sampling against `model.generate`. Model
FLOPs count what the tokens need: every token through the layers, completions' tokens through the
head, attention over what is before; a training step is three forwards (Kaplan et al. 2020, section
2.1), the reference's pass one. `--small` takes the small model of the other benchmarks, also on a
CPU, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import label
import sample
import train
from synthetic import LLAMA_6_256, make_model, measure, phase_seconds, run_stage, settings

LLAMA_1B = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
}
"""This is the shape of Llama 3.2 1B."""
PAIRS = train.Case((20, 300), (20, 600), 1024)
PEAK_TFLOPS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "L40S": 362, "4090": 165}
"""These are dense bf16 TFLOPs by NVIDIA's data sheets; the first name that the GPU's contains
counts."""
HERE = Path(__file__).parent
Table = dict[str, Any]


class Bench:
    """Runs our stage and a plain program on the same rows and model, one after the other."""

    def __init__(self, work: Path, shape: Mapping[str, Any], device: str) -> None:
        self.work = work
        self.shape = shape
        self.device = device

    def plain(self, program: str, *arguments: object) -> Table:
        command = [sys.executable, str(HERE / program), *map(str, arguments), self.device]
        found: Table = json.loads(measure(command).stdout)
        return found

    def ours(self, stage: str, inputs: Any, **tables: Any) -> Path:
        """Returns the attempt's directory."""
        attempt = self.work / stage
        device = "auto" if self.device == "cuda" else "cpu"
        launch = {"device": device}
        resolved = settings(self.work / "policy", self.work, launch=launch, **tables)
        run_stage(stage, attempt, inputs, resolved)
        return attempt

    def train(self) -> Table:
        from halos_backend.store.job import TrainInputs

        policy, feedback = self.work / "policy", self.work / "feedback.jsonl"
        make_model(policy, shape=self.shape, dtype=self.low_dtype)
        num_tokens = train.write_pairs(feedback, PAIRS)
        theirs = self.plain(
            "padded_trainer.py", policy, feedback, PAIRS.max_length, train.BATCH_SIZE
        )
        inputs = TrainInputs(
            model=str(policy),
            initial=str(policy),
            reference=str(policy),
            feedback=str(feedback),
            completions=str(feedback),
            trainer_state=None,
            progress_start=0.0,
            progress_end=1.0,
            first_step=0,
        )
        table = {"loss": {"kind": "dpo"}, "batch_size": train.BATCH_SIZE, "lr": 1e-5}
        attempt = self.ours("train", inputs, train=table)
        seconds = phase_seconds(attempt, ("reference", "training"))
        flops = 4 * forward_flops(feedback, self.shape)
        peak = self.peak_flops()
        summary = summary_of(attempt)
        return {
            "tokens": num_tokens,
            "tokens_per_s": num_tokens / seconds,
            "padded_tokens_per_s": num_tokens / theirs["seconds"],
            "speed_ratio": theirs["seconds"] / seconds,
            "model_tflops_per_s": flops / seconds / 1e12,
            "mfu": peak and flops / seconds / peak,
            "padded_mfu": peak and flops / theirs["seconds"] / peak,
            "peak_bytes": summary["peak_memory_bytes"],
            "padded_peak_bytes": theirs["peak_bytes"],
        }

    def label(self) -> Table:
        from halos_backend.store.job import LabelInputs

        model, completions = self.work / "reward_model", self.work / "completions.jsonl"
        make_model(model, classifier=True, shape=self.shape, dtype=self.low_dtype)
        label.write_completions(completions)
        theirs = self.plain("single_scorer.py", model, completions)
        judge = {"kind": "reward_model", "path": str(model), "dtype": self.low_dtype}
        table = {"judge": judge, "feedback": {"kind": "pairwise"}}
        attempt = self.ours("label", LabelInputs(str(completions)), label=table)
        seconds = phase_seconds(attempt, ("scoring",))
        return {
            "sequences_per_s": theirs["sequences"] / seconds,
            "single_sequences_per_s": theirs["sequences"] / theirs["seconds"],
            "speed_ratio": theirs["seconds"] / seconds,
        }

    def sample(self) -> Table:
        from halos_backend.store.job import SampleInputs

        policy, prompts = self.work / "policy", self.work / "prompts.jsonl"
        sample.write_prompts(prompts)
        sizes = (sample.GROUP_SIZE, sample.BATCH_SIZE, sample.MAX_NEW_TOKENS)
        ends = json.dumps([2, *sample.END_IDS])
        theirs = self.plain("plain_generator.py", policy, prompts, *sizes, ends)
        inputs = SampleInputs(str(policy), 0, str(prompts), 0, sample.NUM_PROMPTS, str(policy))
        attempt = self.ours("sample", inputs, sample={**sample.SETTINGS, "engine": "transformers"})
        ours = summary_of(attempt)["num_tokens"] / phase_seconds(attempt, ("generating",))
        plain = theirs["tokens"] / theirs["seconds"]
        return {
            "tokens_per_s": ours,
            "generate_tokens_per_s": plain,
            "speed_ratio": ours / plain,
        }

    @property
    def low_dtype(self) -> str:
        return "bfloat16" if self.device == "cuda" else "float32"

    def peak_flops(self) -> float | None:
        if self.device == "cpu":
            return None
        import torch

        name = torch.cuda.get_device_name()
        return next((peak * 1e12 for part, peak in PEAK_TFLOPS.items() if part in name), None)


def forward_flops(feedback: Path, shape: Mapping[str, Any]) -> float:
    """Counts the FLOPs of both sides of all pairs once through the model."""
    width, layers, vocabulary = (
        shape[name] for name in ("hidden_size", "num_hidden_layers", "vocab_size")
    )
    keys = width * shape["num_key_value_heads"] // shape["num_attention_heads"]
    per_layer = 2 * width * width + 2 * width * keys + 3 * width * shape["intermediate_size"]
    flops = 0.0
    for pair in map(json.loads, feedback.read_text().splitlines()):
        for side in ("chosen", "rejected"):
            completion = len(pair[side]["token_ids"])
            length = len(pair["prompt_token_ids"]) + completion
            flops += 2 * layers * per_layer * length + 2 * width * vocabulary * completion
            flops += 2 * layers * width * length * length  # half of 4: causal
    return flops


def summary_of(attempt: Path) -> Table:
    found: Table = json.loads((attempt / "DONE").read_text())["summary"]
    return found


def main() -> None:
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    is_small = parser.parse_args().small
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not is_small:
        raise SystemExit("no GPU that torch can use: --small tries this out on the CPU")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), LLAMA_6_256 if is_small else LLAMA_1B, device)
        results = {"train": bench.train(), "label": bench.label(), "sample": bench.sample()}
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(json.dumps({"benchmark": "gpu", "device": name, **results}))


if __name__ == "__main__":
    main()
