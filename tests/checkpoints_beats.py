"""Small checkpoints of BEATs, DeCoAR 2.0 and LEAF with random weights, in their releases' formats."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxfide.frontends.fairseq import Sizes

SMALL = Sizes(
    encoder_layers=3,
    encoder_embed_dim=48,
    encoder_ffn_embed_dim=64,
    encoder_attention_heads=4,
    conv_pos=32,
    conv_pos_groups=4,
)
BEATS_CFG: dict[str, Any] = {
    **SMALL.to_dict(),
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "conv_bias": False,
    "relative_position_embedding": True,
    "num_buckets": 32,
    "max_distance": 40,
    "gru_rel_pos": True,
    "deep_norm": True,
    "input_patch_size": 16,
    "embed_dim": 32,
    "finetuned_model": False,
}
Shapes = dict[str, tuple[int, ...]]


def transformer_shapes(sizes: Sizes) -> Shapes:
    """Names and shapes below ``encoder.`` that both releases share."""
    dim, wide = sizes.encoder_embed_dim, sizes.encoder_ffn_embed_dim
    shapes: Shapes = {
        "pos_conv.0.bias": (dim,),
        "pos_conv.0.weight_g": (1, 1, sizes.conv_pos),
        "pos_conv.0.weight_v": (dim, dim // sizes.conv_pos_groups, sizes.conv_pos),
        "layer_norm.weight": (dim,),
        "layer_norm.bias": (dim,),
    }
    for i in range(sizes.encoder_layers):
        for part, out, into in (
            *((f"self_attn.{p}_proj", dim, dim) for p in ("q", "k", "v", "out")),
            ("fc1", wide, dim),
            ("fc2", dim, wide),
        ):
            shapes[f"layers.{i}.{part}.weight"] = (out, into)
            shapes[f"layers.{i}.{part}.bias"] = (out,)
        for part in ("self_attn_layer_norm", "final_layer_norm"):
            shapes[f"layers.{i}.{part}.weight"] = shapes[f"layers.{i}.{part}.bias"] = (dim,)
    return {f"encoder.{k}": v for k, v in shapes.items()}


def decoar2_shapes(sizes: Sizes) -> Shapes:
    """Names and shapes of DeCoAR 2.0's state dict."""
    dim = sizes.encoder_embed_dim
    projection = {"post_extract_proj.weight": (dim, 80), "post_extract_proj.bias": (dim,)}
    return {**projection, **transformer_shapes(sizes)}


def beats_shapes(cfg: dict[str, Any]) -> Shapes:
    """Names and shapes of a pre-trained BEATs state dict."""
    sizes, patch_dim = Sizes.from_dict(cfg), cfg["embed_dim"]
    dim, heads = sizes.encoder_embed_dim, sizes.encoder_attention_heads
    shapes = {
        "patch_embedding.weight": (patch_dim, 1, 16, 16),
        "layer_norm.weight": (patch_dim,),
        "layer_norm.bias": (patch_dim,),
        "post_extract_proj.weight": (dim, patch_dim),
        "post_extract_proj.bias": (dim,),
        **transformer_shapes(sizes),
    }
    for i in range(sizes.encoder_layers):
        attention = f"encoder.layers.{i}.self_attn."
        shapes[attention + "grep_a"] = (1, heads, 1, 1)
        shapes[attention + "grep_linear.weight"] = (8, dim // heads)
        shapes[attention + "grep_linear.bias"] = (8,)
        shapes[attention + "relative_attention_bias.weight"] = (cfg["num_buckets"], heads)
    return shapes


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors of these shapes; norms and gains stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        scale = 1 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1
        tensor = scale * torch.randn(shape, generator=generator)
        near_one = name.endswith(("norm.weight", "weight_g", "grep_a"))
        state[name] = tensor + 1 if near_one else tensor
    return state


def write_beats(path: Path, **cfg: Any) -> dict[str, torch.Tensor]:
    """Writes what ``torch.save`` of a BEATs release holds; fine-tuned where ``cfg`` says so."""
    cfg = {**BEATS_CFG, **cfg}
    state = random_state(beats_shapes(cfg))
    table = state["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    for i in range(cfg["encoder_layers"]):  # one tensor, listed under every layer
        state[f"encoder.layers.{i}.self_attn.relative_attention_bias.weight"] = table
    content: dict[str, Any] = {"cfg": cfg, "model": state}
    if cfg["finetuned_model"]:
        state["predictor.weight"] = torch.randn(5, cfg["encoder_embed_dim"])
        state["predictor.bias"] = torch.randn(5)
        content["label_dict"] = {i: f"/m/{i}" for i in range(5)}
    torch.save(content, path)
    return state


def write_decoar2(path: Path) -> dict[str, torch.Tensor]:
    """Writes a fairseq training checkpoint: the model, its quantiser, and training's own objects."""
    state = random_state(decoar2_shapes(SMALL))
    extra = {"quantizer.vars": torch.randn(1, 6, 4), "final_proj.weight": torch.randn(3, 3)}
    torch.save({"args": argparse.Namespace(arch="decoar2"), "model": {**state, **extra}, "epoch": 3}, path)
    return state


def write_leaf(path: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    """Writes what leaf-pytorch's training script saves of a classifier."""
    generator = torch.Generator().manual_seed(seed)

    def around(value: float, *shape: int) -> torch.Tensor:
        return value * (1 + 0.2 * torch.rand(shape, generator=generator))

    features = {
        "_complex_conv._kernel": torch.stack([torch.linspace(0.04, 2.8, 40), around(20.0, 40)], dim=1),
        "_pooling.weights": around(0.35, 1, 1, 40, 1),
        "_pooling._bias": around(0.1, 40),
        "_compression.alpha": around(0.8, 40),
        "_compression.delta": around(1.5, 40),
        "_compression.root": around(2.0, 40),
        "_compression.ema._weights": around(0.05, 40),
    }
    state = {f"features.{k}": v for k, v in features.items()}
    # The script keeps its metrics as numpy scalars, which weights_only=True refuses.
    torch.save(
        {
            "model_state_dict": {**state, "model._fc.weight": torch.randn(2, 2)},
            "optimizer_state_dict": {},
            "epoch": 1,
            "tr_loss": np.mean([0.1, 0.2]),
        },
        path,
    )
    return features


WRITERS: dict[str, Callable[[Path], object]] = {
    "beats": write_beats,
    "decoar2": write_decoar2,
    "leaf": write_leaf,
}
"""Registered name to what writes a small checkpoint."""
