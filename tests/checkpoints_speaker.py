"""Small ECAPA-TDNN, TitaNet, YAMNet and GE2E checkpoints, random, in the official releases' formats."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conftest import GOLDEN

TITANET_PREPROCESSOR = {
    "sample_rate": 16000,
    "window_size": 0.025,
    "window_stride": 0.01,
    "window": "hann",
    "normalize": "per_feature",
    "n_fft": 512,
    "features": 80,
}
YAMNET_WIDTHS = (2, 4, 4, 4, 6, 6, 8, 8, 8, 8, 8, 8, 12, 12)


def golden_weights(folder: str) -> dict[str, Tensor]:
    """The weights of a reference model under ``shared/golden``, under its own names."""
    with np.load(GOLDEN / folder / "weights.npz") as file:
        return {k: torch.from_numpy(np.array(file[k])) for k in file.files}


def golden_outputs(folder: str) -> dict[str, np.ndarray]:
    """Inputs and outputs of that model."""
    with np.load(GOLDEN / folder / "outputs.npz") as file:
        return {k: file[k] for k in file.files}


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Random weights under which outputs depend on the input: norms amplify, most rectified units live."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(100)
        elif name.endswith(("running_var", "moving_variance:0")):
            state[name] = 0.4 + 0.2 * torch.rand(shape, generator=generator)
        elif len(shape) < 2:
            gain_or_offset = 1.0 if name.endswith("weight") else 0.5 if name.endswith("beta:0") else 0.0
            state[name] = gain_or_offset + 0.3 * noise
        else:
            # Keras keeps height, width, in, out; PyTorch out, in, taps.
            fan_in = math.prod(shape[:-1] if name.endswith(":0") else shape[1:])
            state[name] = noise / (9 if "depthwise_kernel" in name else fan_in) ** 0.5
    return state


def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def _affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def ecapa_shapes(channels: int = 16, aggregated: int = 24, hidden: int = 6, dim: int = 10) -> dict[str, Any]:
    """Names and shapes of ``embedding_model.ckpt``."""

    def block(name: str, n_in: int, n_out: int, kernel: int = 1) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from _affine(f"{name}.conv.conv", n_out, n_in, kernel)
        yield from _norm(f"{name}.norm.norm", n_out)

    def all_of_them() -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from block("blocks.0", 80, channels, 5)
        for i in (1, 2, 3):
            yield from block(f"blocks.{i}.tdnn1", channels, channels)
            for j in range(7):
                yield from block(f"blocks.{i}.res2net_block.blocks.{j}", channels // 8, channels // 8, 3)
            yield from block(f"blocks.{i}.tdnn2", channels, channels)
            yield from _affine(f"blocks.{i}.se_block.conv1.conv", hidden, channels, 1)
            yield from _affine(f"blocks.{i}.se_block.conv2.conv", channels, hidden, 1)
        yield from block("mfa", 3 * channels, aggregated)
        yield from block("asp.tdnn", 3 * aggregated, hidden)
        yield from _affine("asp.conv.conv", aggregated, hidden, 1)
        yield from _norm("asp_bn.norm", 2 * aggregated)
        yield from _affine("fc.conv", dim, 2 * aggregated, 1)

    return dict(all_of_them())


def write_ecapa(path: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Writes ``embedding_model.ckpt``: the plain state dict."""
    torch.save(dict(state or drawn(ecapa_shapes())), path)


def titanet_config(filters: tuple[int, ...] = (16, 16, 24)) -> dict[str, Any]:
    """``model_config.yaml`` of a TitaNet of three blocks, the middle one of two convolutions and residual."""
    common = {"stride": [1], "dilation": [1], "dropout": 0.1, "separable": True, "se": True}
    blocks = [
        {"filters": n, "repeat": r, "kernel": [k], "residual": r > 1, "se_context_size": -1, **common}
        for n, r, k in zip(filters, (1, 2, 1), (3, 7, 1), strict=True)
    ]
    return {
        "sample_rate": 16000,
        "preprocessor": dict(TITANET_PREPROCESSOR),
        "encoder": {"feat_in": 80, "activation": "relu", "conv_mask": True, "jasper": blocks},
        "decoder": {
            "feat_in": filters[-1], "num_classes": 5, "emb_sizes": 10,
            "pool_mode": "attention", "attention_channels": 6,
        },
    }  # fmt: skip


def titanet_shapes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Names and shapes of ``model_weights.ckpt``."""

    def all_of_them() -> Iterator[tuple[str, tuple[int, ...]]]:
        n_in = 80
        for i, block in enumerate(config["encoder"]["jasper"]):
            name, n_out, kernel = f"encoder.encoder.{i}", block["filters"], block["kernel"][0]
            width = n_in
            for place in range(0, 5 * block["repeat"], 5):
                yield f"{name}.mconv.{place}.conv.weight", (width, 1, kernel)
                yield f"{name}.mconv.{place + 1}.conv.weight", (n_out, width, 1)
                yield from _norm(f"{name}.mconv.{place + 2}", n_out)
                width = n_out
            yield f"{name}.mconv.{place + 3}.fc.0.weight", (n_out // 8, n_out)
            yield f"{name}.mconv.{place + 3}.fc.2.weight", (n_out, n_out // 8)
            if block["residual"]:
                yield f"{name}.res.0.0.conv.weight", (n_out, n_in, 1)
                yield from _norm(f"{name}.res.0.1", n_out)
            n_in = n_out
        decoder = config["decoder"]
        hidden, dim = decoder["attention_channels"], decoder["emb_sizes"]
        yield "preprocessor.featurizer.window", (400,)
        yield "preprocessor.featurizer.fb", (1, 80, 257)
        yield from _affine("decoder._pooling.attention_layer.0.conv_layer", hidden, 3 * n_in, 1)
        yield from _norm("decoder._pooling.attention_layer.0.bn", hidden)
        yield from _affine("decoder._pooling.attention_layer.2", n_in, hidden, 1)
        yield from _norm("decoder.emb_layers.0.0", 2 * n_in)
        yield from _affine("decoder.emb_layers.0.1", dim, 2 * n_in, 1)
        yield from _affine("decoder.final", decoder["num_classes"], dim)

    return dict(all_of_them())


def write_titanet(
    path: Path,
    config: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
    mode: str = "w:gz",
) -> None:
    """Writes a ``.nemo`` archive."""
    import yaml

    config = config or titanet_config()
    weights = io.BytesIO()
    torch.save(dict(state or drawn(titanet_shapes(config))), weights)
    # Through JSON, so that YAML writes neither tuples nor anchors.
    text = yaml.safe_dump(json.loads(json.dumps(config)))
    write_archive(
        path, {"./model_config.yaml": text.encode(), "./model_weights.ckpt": weights.getvalue()}, mode
    )


def write_archive(path: Path, members: Mapping[str, bytes], mode: str = "w") -> None:
    """A tar file with these members."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def yamnet_shapes(widths: tuple[int, ...] = YAMNET_WIDTHS, n_classes: int = 5) -> dict[str, Any]:
    """Names and shapes of the weights in ``yamnet.h5``."""

    def norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in ("beta", "moving_mean", "moving_variance"):
            yield f"{name}/bn/{part}:0", (channels,)

    def all_of_them() -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "layer1/conv/kernel:0", (3, 3, 1, widths[0])
        yield from norm("layer1/conv", widths[0])
        for i, (n_in, n_out) in enumerate(zip(widths, widths[1:], strict=False), 2):
            yield f"layer{i}/depthwise_conv/depthwise_kernel:0", (3, 3, n_in, 1)
            yield from norm(f"layer{i}/depthwise_conv", n_in)
            yield f"layer{i}/pointwise_conv/kernel:0", (1, 1, n_in, n_out)
            yield from norm(f"layer{i}/pointwise_conv", n_out)
        yield "dense/kernel:0", (widths[-1], n_classes)
        yield "dense/bias:0", (n_classes,)

    return dict(all_of_them())


def write_yamnet(path: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Writes what Keras' ``save_weights`` wrote: a group a layer, with the names of its weights."""
    import h5py

    layers: dict[str, list[str]] = {"input_1": []}
    state = state or drawn(yamnet_shapes())
    for name in state:
        layers.setdefault(name.rpartition("/")[0], []).append(name)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(layers)
        for layer, names in layers.items():
            group = file.create_group(layer) if layer not in file else file[layer]
            group.attrs["weight_names"] = [n.encode() for n in names]
            for name in names:
                group[name] = state[name].numpy()


def write_ge2e(path: Path, hidden: int = 12, layers: int = 2, dim: int = 8) -> None:
    """Writes ``pretrained.pt``: the encoder under ``model_state``, beside what training left there."""
    shapes: dict[str, tuple[int, ...]] = {"similarity_weight": (1,), "similarity_bias": (1,)}
    for i in range(layers):
        shapes[f"lstm.weight_ih_l{i}"] = (4 * hidden, hidden if i else 40)
        shapes[f"lstm.weight_hh_l{i}"] = (4 * hidden, hidden)
        shapes |= {f"lstm.bias_{b}_l{i}": (4 * hidden,) for b in ("ih", "hh")}
    shapes |= {"linear.weight": (dim, hidden), "linear.bias": (dim,)}
    state = drawn(shapes)
    state["lstm.weight_ih_l0"] *= 100  # mel energies are small: there is no logarithm
    torch.save({"step": 7, "model_state": state, "optimizer_state": {"state": {}, "lr": 1e-4}}, path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "ecapa-tdnn": write_ecapa,
    "titanet-large": write_titanet,
    "yamnet": write_yamnet,
    "ge2e": write_ge2e,
}
"""Registered name to what writes a small file in the format of its official release."""
