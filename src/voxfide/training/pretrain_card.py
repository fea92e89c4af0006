"""The model card of a pre-trained encoder."""

from __future__ import annotations

from typing import Any

from voxfide.frontends.ssl_config import SSLConfig


def model_card(facts: dict[str, Any], config: SSLConfig) -> str:
    """``README.md`` of a model folder: what was trained on what, and its last figures."""
    data, final, settings = facts["data"], facts["final"], facts["settings"]
    start = facts["start"]["from"] or "random weights"
    targets = (
        "MFCC"
        if settings["targets"] == "mfcc"
        else f"block {settings['targets'].rpartition(':')[2]} of a model"
    )
    rows = [
        ("architecture", f"{config.model_type}, {config.num_hidden_layers} blocks of {config.hidden_size}"),
        ("parameters", f"{facts['parameters']:,}"),
        ("start", start),
        ("targets", f"{settings['clusters']} clusters of {targets}"),
        ("data", f"{data['utterances']:,} utterances, {data['hours']:.2f} h; {data['not_used']} not used"),
        ("manifest digest", f"`{data['manifest']}`"),
        ("training", f"{facts['steps']:,} steps, {facts['passes']} passes, {facts['minutes']:.1f} minutes"),
        ("masked frames named right", f"{100 * final['accuracy_masked']:.1f} %"),
        ("share of the commonest cluster", f"{100 * final['majority']:.1f} %"),
        ("loss on masked frames", f"{final['loss_masked']:.4f}"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""---
library_name: transformers
tags: [speech, self-supervised]
---

# Self-supervised speech model

Trained by `voxfide pretrain`, without labels: masked prediction of clusters (HuBERT, Hsu et al. 2021) with
utterance mixing (WavLM, Chen et al. 2022). Figures are those of the last steps, on the training data.

| | |
|---|---|
{table}

`transformers.AutoModel.from_pretrained(FOLDER)` and `voxfide train … --frontend FOLDER` load it.
Audio: 16 kHz, mono. `pretraining.json` holds all settings.
"""
