"""Detectors in the form of ``transformers``' audio classifiers: one folder that both load.

``config.json`` holds the entries of both: ``transformers`` reads those of the model, voxfide those of
any detector; ``model.safetensors`` has the names of ``transformers``. A public classifier lacks
voxfide's entries; :func:`adopt` supplies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxfide.backends.classifier import HEAD_TENSORS, LAYER_WEIGHTS, ClassifierBackend
from voxfide.backends.classifier_labels import resolve_classes
from voxfide.crops import WHOLE
from voxfide.errors import CheckpointError
from voxfide.frontends.base import tensors_digest
from voxfide.frontends.checkpoint import (
    load_encoder,
    preprocessor_config,
    stored_tensors,
    transformers_config,
    transformers_state,
)
from voxfide.frontends.ssl import SSLFrontend
from voxfide.frontends.ssl_config import SSLConfig

FORM = "transformers"
"""Value of ``frontend.weights.in`` in ``config.json``."""

MODEL_CLASSES = {
    "wav2vec2": "Wav2Vec2ForSequenceClassification",
    "hubert": "HubertForSequenceClassification",
    "wavlm": "WavLMForSequenceClassification",
}


@dataclass(frozen=True)
class TransformersFiles:
    """Contents of ``config.json``, ``preprocessor_config.json`` and ``model.safetensors``."""

    config: dict[str, Any]
    preprocessor: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def transformers_files(
    config: Mapping[str, Any], backend: Mapping[str, torch.Tensor], frontend: Mapping[str, torch.Tensor]
) -> TransformersFiles:
    """What is written of a detector with a classification head.

    Args:
        config: of the detector.
        backend, frontend: tensors of both.
    """
    settings = config["frontend"]["settings"]
    ssl = SSLConfig.from_dict(settings["config"])
    own = {name.removeprefix("encoder."): tensor for name, tensor in frontend.items()}
    encoder = transformers_state(ssl, own, f"{ssl.model_type}.")
    labels = config["backend"]["config"]["labels"]
    values = {
        "architectures": [MODEL_CLASSES[ssl.model_type]],
        **transformers_config(ssl, settings["n_layers"]),
        "classifier_proj_size": len(backend["projector.bias"]),
        "use_weighted_layer_sum": LAYER_WEIGHTS in backend,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        **config,
        # Of the tensors as stored: what is computed from them may round differently elsewhere.
        "frontend": {**config["frontend"], "weights_sha256": tensors_digest(encoder)},
    }
    return TransformersFiles(values, preprocessor_config(ssl), {**encoder, **backend})


def is_public_classifier(config: Mapping[str, Any]) -> bool:
    """Whether this ``config.json`` is of an audio classifier that voxfide did not write."""
    names = config.get("architectures") or []
    return "library" not in config and any(str(n).endswith("ForSequenceClassification") for n in names)


def adopt(folder: Path, config: Mapping[str, Any], labels: Mapping[str, str] | None) -> dict[str, Any]:
    """``config.json`` of a public classifier with the entries of a voxfide detector.

    Args:
        labels: which label means what; see :func:`resolve_classes`.

    Raises:
        CheckpointError: an architecture that is not known here.
        UsageError: labels that do not say what they mean.
    """
    ssl = SSLConfig.from_folder(folder)
    if config.get("add_adapter"):
        raise CheckpointError(f"{folder}: has add_adapter: adapters after the encoder are not supported")
    names = _label_names(folder, config)
    settings = {
        "config": ssl.to_dict(),
        "n_layers": ssl.num_hidden_layers,
        "precision": "fp32",
        "head_states": True,
    }
    backend = ClassifierBackend(tuple(names), resolve_classes(names, labels, str(folder)))
    return {
        **config,
        "frontend": {
            "name": folder.name,
            "kind": SSLFrontend.kind,
            "n_layers": ssl.num_hidden_layers + 1 + ssl.do_stable_layer_norm,
            "settings": settings,
            "weights": {"in": FORM},
            "weights_sha256": None,
        },
        "pool": "mean",
        "crop": WHOLE.to_json(),
        "backend": {"name": backend.name, "config": backend.config(), "weights_sha256": None},
        "threshold": 0.0,
        "training": {},
    }


def _label_names(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Names of the outputs in order; those that ``transformers`` gives where the file has none."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    if not isinstance(names, dict) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        raise CheckpointError(f"{folder}: id2label is {names!r} (expected a name for each of 0, 1, …)")
    if len(names) < 2:
        raise CheckpointError(f"{folder}: the classifier has one output only (expected two labels or more)")
    return [str(names[key]) for key in sorted(names, key=int)]


def read_frontend(folder: Path, config: Mapping[str, Any]) -> SSLFrontend:
    """The front-end of a folder in this form.

    Raises:
        CheckpointError: weights that are missing, do not fit, or have changed.
    """
    settings = config["settings"]
    expected = config["weights_sha256"]
    if expected is not None:
        head = {*HEAD_TENSORS, LAYER_WEIGHTS}
        found = tensors_digest({name: read() for name, read in stored_tensors(folder) if name not in head})
        if found != expected:
            raise CheckpointError(
                f"{folder}: the front-end's weights are not those that the detector was saved with "
                f"(digest {found[:12]}, expected {str(expected)[:12]})"
            )
    encoder = load_encoder(folder, settings["n_layers"], head_states=True)
    return SSLFrontend(encoder, config["name"], None, settings["precision"]).eval()


def read_head(folder: Path, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The head's tensors of a folder in this form."""
    wanted = {*HEAD_TENSORS, *([LAYER_WEIGHTS] if config.get("use_weighted_layer_sum") else [])}
    return {name: read().float().numpy().copy() for name, read in stored_tensors(folder) if name in wanted}
