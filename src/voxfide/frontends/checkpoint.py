"""Model folders in Hugging Face's on-disk form: find them, read the needed tensors, write them.

Reads ``model.safetensors``, sharded safetensors and ``pytorch_model.bin`` (with
``weights_only=True``); only tensors that the truncated model uses are taken.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxfide.errors import CheckpointError, first_few
from voxfide.files import write_atomic
from voxfide.frontends.ssl_config import SSLConfig, read_json
from voxfide.frontends.ssl_model import SSLEncoder
from voxfide.hub import download, is_hub_id

PREFIXES = ("wav2vec2.", "hubert.", "wavlm.")
MODEL_CLASSES = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel"}
POS_CONV = "encoder.pos_conv_embed.conv."
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
WITHOUT_HUB = (
    "without a network, copy the model folder with config.json, preprocessor_config.json and "
    "model.safetensors or pytorch_model.bin here and give its path in place of the name"
)


@dataclass(frozen=True)
class ModelSource:
    """Where a model came from: a folder, and its hub id and resolved commit if it has them."""

    folder: Path
    hub_id: str | None = None
    revision: str | None = None


def locate(
    name: str, revision: str | None = None, also: Sequence[str] = (), **hub_options: Any
) -> ModelSource:
    """A local folder as it is, or a hub id downloaded (or found in the hub cache).

    Args:
        name: folder or hub id.
        revision: branch, tag or commit of a hub id.
        also: further files that are taken if they are there.
        hub_options: those of :func:`~voxfide.hub.download`.

    Raises:
        CheckpointError: neither; says what to do without a network.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ModelSource(folder)
    if folder.exists():
        raise CheckpointError(f"{name}: is a file (expected a model folder with config.json, or a hub id)")
    if not is_hub_id(name):
        raise CheckpointError(
            f"{name}: no such model folder, and not a hub id of the form ORGANISATION/NAME either"
        )
    found = download(
        name,
        ["config.json"],
        WEIGHT_FILES,
        ["preprocessor_config.json", *also],
        revision=revision,
        advice=WITHOUT_HUB,
        **hub_options,
    )
    index = found.folder / "model.safetensors.index.json"
    if index.exists() and not (found.folder / "model.safetensors").exists():
        download(name, _shards(index), revision=found.commit, advice=WITHOUT_HUB, **hub_options)
    return ModelSource(found.folder, name, found.commit)


def _shards(index: Path) -> list[str]:
    """Names of the files that a sharded checkpoint is spread over."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{index}: has no weight_map (expected tensor names and their files)")
    return sorted(set(shards.values()))


def load_encoder(folder: Path, n_layers: int | None = None, head_states: bool = False) -> SSLEncoder:
    """Builds the first ``n_layers`` layers of the model in ``folder`` with its weights, in eval mode.

    ``head_states`` are those of :class:`~voxfide.frontends.ssl_model.SSLEncoder`.

    Raises:
        CheckpointError: no configuration or weights, missing tensors, or wrong shapes.
        UsageError: more layers than the model has.
    """
    config = SSLConfig.from_folder(folder)
    with torch.device("meta"):
        model = SSLEncoder(config, n_layers, head_states)
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    state = _read_state(folder, wanted)
    if problems := misfits(wanted, state, "the configuration says"):
        raise CheckpointError(f"{folder}: weights do not fit config.json: {first_few(problems)}")
    # Copied one by one, so that the model neither keeps a file mapped nor ever stands in memory twice.
    own = {}
    for k in wanted:
        tensor = state.pop(k)
        own[k] = (tensor if k.endswith("num_batches_tracked") else tensor.float()).clone()
    model.load_state_dict(own, assign=True)
    return model.eval().requires_grad_(False)


def misfits(
    wanted: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], said: str = "expected"
) -> list[str]:
    """Tensors that ``state`` lacks or has in another shape; ``said`` stands before the shape it should be."""
    problems = [f"missing {k}" for k in wanted if k not in state]
    problems += [
        f"{k} has shape {tuple(state[k].shape)}, {said} {shape}"
        for k, shape in wanted.items()
        if k in state and tuple(state[k].shape) != shape
    ]
    return problems


def _read_state(folder: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors under the names of :class:`SSLEncoder`, weight norm resolved."""
    norms: dict[str, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, read in stored_tensors(folder):
        key = plain_name(name)
        if key in wanted:
            state[key] = read()
        elif key.startswith(POS_CONV):
            norms[key.removeprefix(POS_CONV)] = read()
    pairs = (
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ("weight_g", "weight_v"),
    )
    for g, v in pairs:
        if g in norms and v in norms:
            state[POS_CONV + "weight"] = without_weight_norm(norms[g], norms[v])
    return state


def without_weight_norm(gain: Tensor, direction: Tensor) -> Tensor:
    """The positional convolution's weight of its two parts, in float32."""
    direction = direction.float()
    # Weight norm over all but the last axis (dim=2): one gain a tap.
    return direction * (gain.float() / direction.norm(dim=(0, 1), keepdim=True))


def plain_name(name: str) -> str:
    """A tensor's name without the prefix that models with a task head put before it."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def stored_tensors(folder: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Names in a checkpoint, each with a function that reads its tensor."""
    single, index, pickled = (folder / f for f in WEIGHT_FILES)
    if single.exists():
        yield from _safetensors(single)
    elif index.exists():
        for shard in _shards(index):
            if not (folder / shard).exists():
                raise CheckpointError(f"{folder / shard}: missing shard (named in {index.name})")
            yield from _safetensors(folder / shard)
    elif pickled.exists():
        yield from _pickled(pickled)
    else:
        raise CheckpointError(f"{folder}: no weights (expected one of {', '.join(WEIGHT_FILES)})")


def _safetensors(path: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                yield name, partial(file.get_tensor, name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


def is_zip(path: Path) -> bool:
    """Whether it has torch's newer form, which alone can be memory-mapped; told as torch tells it.

    :func:`zipfile.is_zipfile` looks further, and raises on some damaged files.
    """
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _pickled(path: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a readable weights-only PyTorch file ({first})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: expected a state dict, found {type(state).__name__}")
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            yield name, partial(torch.Tensor.clone, tensor)


def save_encoder(model: SSLEncoder, folder: Path, mask: Tensor | None = None) -> None:
    """Writes ``config.json``, ``preprocessor_config.json`` and ``model.safetensors`` as transformers does.

    The folder loads in ``transformers`` with ``AutoModel.from_pretrained`` and here
    with :func:`load_encoder`. A model cut to n layers is written as one of n layers;
    a pre-norm model's final norm, where no hidden state uses it, is written as identity.
    ``mask (dim,)`` is the vector that stands for masked frames; zero where left out.
    """
    from safetensors.torch import save as to_bytes

    config = {
        **transformers_config(model.config, model.n_layers),
        "architectures": [MODEL_CLASSES[model.config.model_type]],
        "layerdrop": 0.0,
    }
    state = transformers_state(model.config, model.state_dict())
    if mask is not None:
        state["masked_spec_embed"] = mask.detach().float().cpu().contiguous()
    write_atomic(folder / "model.safetensors", to_bytes(state, metadata={"format": "pt"}))
    preprocessor = preprocessor_config(model.config)
    for name, values in (("config.json", config), ("preprocessor_config.json", preprocessor)):
        write_atomic(folder / name, json.dumps(values, indent=2) + "\n")


def transformers_config(config: SSLConfig, n_layers: int) -> dict[str, Any]:
    """The architecture as ``config.json`` of a model of ``n_layers`` layers states it."""
    values = {
        **config.to_dict(),
        "num_hidden_layers": n_layers,
        "num_feat_extract_layers": len(config.conv_dim),
    }
    del values["do_normalize"]
    return values


def preprocessor_config(config: SSLConfig) -> dict[str, Any]:
    """``preprocessor_config.json``."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": config.do_normalize,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": config.feat_extract_norm == "layer",
        "sampling_rate": 16000,
    }


def transformers_state(
    config: SSLConfig, tensors: Mapping[str, Tensor], prefix: str = ""
) -> dict[str, Tensor]:
    """Tensors of an :class:`SSLEncoder` under the names that ``transformers`` gives them.

    The positional convolution is split into gain and direction (weight norm); what the encoder
    does not have is the identity (final norm) or zero (the vector that stands for masked frames).
    """
    state = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    if not config.conv_pos_batch_norm:
        weight = state.pop(POS_CONV + "weight")
        state[POS_CONV + "parametrizations.weight.original0"] = weight.norm(dim=(0, 1), keepdim=True)
        state[POS_CONV + "parametrizations.weight.original1"] = weight
    dim = config.hidden_size
    state.setdefault("encoder.layer_norm.weight", torch.ones(dim))
    state.setdefault("encoder.layer_norm.bias", torch.zeros(dim))
    state["masked_spec_embed"] = torch.zeros(dim)
    return {prefix + k: v for k, v in state.items()}
