"""Small SSL checkpoints with random weights, in the official on-disk formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (24,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layerdrop": 0.1,
}
FEW_BUCKETS = {"num_buckets": 32, "max_bucket_distance": 40}
LARGE_STYLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

VARIANTS: dict[str, tuple[str, dict[str, Any], bool]] = {
    # name: (family, configuration beside SMALL, do_normalize)
    "wav2vec2-base": ("wav2vec2", {}, True),
    "xls-r": ("wav2vec2", LARGE_STYLE, True),
    "hubert-base": ("hubert", {}, True),
    "hubert-large": ("hubert", LARGE_STYLE, True),
    "mhubert": ("hubert", {"conv_pos_batch_norm": True}, True),
    "distilhubert": ("hubert", {"num_hidden_layers": 2, "feat_proj_layer_norm": False}, True),
    "wavlm-base": ("wavlm", FEW_BUCKETS, False),
    "wavlm-large": ("wavlm", {**LARGE_STYLE, **FEW_BUCKETS, "conv_bias": False}, True),
}  # fmt: skip


def reference_model(name: str, seed: int = 0) -> Any:
    """The ``transformers`` model of a variant, every parameter random, in eval mode."""
    import transformers

    family, extra, _ = VARIANTS[name]
    config_class, model_class = {
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
        "hubert": (transformers.HubertConfig, transformers.HubertModel),
        "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
    }[family]
    torch.manual_seed(seed)
    model = model_class(config_class(**{**SMALL, **extra}))
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not key.endswith("running_var"):
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return model.eval()


def write_checkpoint(
    folder: Path, name: str, *, file_format: str = "safetensors", headed: bool = False
) -> Any:
    """Writes a variant as an official release would lie on disk and returns its reference model.

    Args:
        folder: where to.
        name: key of :data:`VARIANTS`.
        file_format: ``safetensors``, ``sharded`` or ``bin`` (older releases).
        headed: with the family's prefix and a task head, as fine-tuned models have.
    """
    import transformers
    from safetensors.torch import save_file

    family, _, do_normalize = VARIANTS[name]
    model = reference_model(name)
    folder.mkdir(parents=True, exist_ok=True)
    if file_format == "safetensors" and not headed:
        model.save_pretrained(folder)
    elif file_format == "sharded":
        model.save_pretrained(folder, max_shard_size="100KB")
        assert (folder / "model.safetensors.index.json").exists()
    else:
        model.config.save_pretrained(folder)
        prefix = f"{family}." if headed else ""
        state = {prefix + k: v.contiguous().clone() for k, v in model.state_dict().items()}
        if headed:
            state["classifier.weight"] = torch.randn(2, 48)
        if file_format == "bin":
            renamed = {
                k.replace("parametrizations.weight.original0", "weight_g").replace(
                    "parametrizations.weight.original1", "weight_v"
                ): v
                for k, v in state.items()
            }
            torch.save(renamed, folder / "pytorch_model.bin")
        else:
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    transformers.Wav2Vec2FeatureExtractor(
        do_normalize=do_normalize, return_attention_mask=do_normalize
    ).save_pretrained(folder)
    return model
