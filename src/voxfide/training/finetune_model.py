"""The model that is fine-tuned: encoder and classification head, as ``transformers`` builds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from voxfide.backends.classifier import ClassifierBackend
from voxfide.errors import MissingDependencyError, UsageError
from voxfide.frontends import FRONTENDS
from voxfide.frontends.checkpoint import ModelSource, load_encoder, locate, plain_name, stored_tensors
from voxfide.frontends.ssl import SSLFrontend
from voxfide.frontends.ssl_config import read_json
from voxfide.frontends.ssl_layers import Attention, FeatureProjection, FeedForward, TransformerLayer
from voxfide.frontends.ssl_model import SSLEncoder
from voxfide.training.finetune_settings import FinetuneSettings, Regularisation

PROJECTION = 256
"""Width of the head (``classifier_proj_size``)."""

INITIAL_DEVIATION = 0.02
"""Of the head's first weights (``initializer_range``)."""

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
ADAPTER = "default"


class FinetuneModel(nn.Module):
    """Waveforms to the logits of spoof and bona fide.

    Computes what ``*ForSequenceClassification`` does, on packed utterances: without padding, so that
    an utterance gets the same logits alone as in any batch. The positional convolution is trained
    through weight norm, as there.

    Args:
        encoder: with ``head_states``; it is trained in place.
        regularisation: noise in training.
        mask: ``(dim,)``, what stands for masked frames.
        settings: what is trained, and how memory is saved.
    """

    def __init__(
        self, encoder: SSLEncoder, regularisation: Regularisation, mask: Tensor, settings: FinetuneSettings
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.regularisation = regularisation
        self.masked_spec_embed = nn.Parameter(mask.clone())
        self.projector = nn.Linear(encoder.config.hidden_size, PROJECTION)
        self.classifier = nn.Linear(PROJECTION, 2)
        for linear in (self.projector, self.classifier):
            nn.init.normal_(linear.weight, std=INITIAL_DEVIATION)
            nn.init.zeros_(linear.bias)
        set_noise(encoder, regularisation)
        encoder.encoder.gradient_checkpointing = settings.gradient_checkpointing
        encoder.requires_grad_(True)
        encoder.feature_extractor.requires_grad_(settings.train_convolutions)
        if not encoder.config.conv_pos_batch_norm:
            weight_norm(encoder.encoder.pos_conv_embed.conv, dim=2)
        if settings.lora_rank:
            encoder.requires_grad_(False)
            add_lora(encoder, settings.lora_rank, settings.lora_alpha)
        masks = settings.spec_augment and regularisation.mask_time_prob > 0
        self.masked_spec_embed.requires_grad_(masks and not settings.lora_rank)

    def forward(self, waveforms: Sequence[Tensor], keys: Sequence[int] | None = None) -> Tensor:
        """Logits ``(batch, 2)`` of waveforms ``(samples,)``; index 0 is spoof, 1 is bona fide.

        Args:
            keys: a seed for the masks of each utterance; without, they are drawn from torch's global state.
        """
        x, frames = self.encoder.project(waveforms)
        if self.training:
            x = self._masked(x, frames, generators(keys, len(frames)))
        *_, last = self.encoder.encoder(x, frames)
        average = torch.stack([part.mean(dim=0) for part in last.split(frames)])
        logits: Tensor = self.classifier(self.projector(average))
        return logits

    def train(self, mode: bool = True) -> FinetuneModel:
        """A positional convolution's batch norm keeps its statistics: batches here are small."""
        super().train(mode)
        norm = self.encoder.encoder.pos_conv_embed.batch_norm
        if norm is not None:
            norm.eval()
        return self

    def _masked(self, x: Tensor, frames: Sequence[int], chance: Sequence[torch.Generator | None]) -> Tensor:
        r = self.regularisation
        if r.mask_time_prob > 0:
            spans = (r.mask_time_prob, r.mask_time_length, r.mask_time_min_masks)
            mask = torch.cat([span_mask(n, *spans, g) for n, g in zip(frames, chance, strict=True)]).to(
                x.device
            )
            x = torch.where(mask[:, None], self.masked_spec_embed.to(x.dtype), x)
        if r.mask_feature_prob > 0:
            spans = (r.mask_feature_prob, r.mask_feature_length, r.mask_feature_min_masks)
            masks = torch.stack([span_mask(x.shape[1], *spans, g) for g in chance]).to(x.device)
            counts = torch.tensor(frames, device=x.device)
            x = x.masked_fill(masks.repeat_interleave(counts, dim=0), 0.0)
        return x

    def backend(self) -> ClassifierBackend:
        """The head as a back-end."""
        state = {
            f"{name}.{kind}": getattr(getattr(self, name), kind).detach().float().cpu().numpy().copy()
            for name in ("projector", "classifier")
            for kind in ("weight", "bias")
        }
        return ClassifierBackend.restore(ClassifierBackend().config(), state)

    def frontend(self, name: str, precision: str = "fp32") -> SSLFrontend:
        """The encoder in training as a front-end in eval mode, for :meth:`backend`; nothing is copied."""
        return SSLFrontend(self.encoder, name, None, precision).eval()

    def frozen(self, name: str) -> SSLFrontend:
        """A copy of the encoder as it is now: weight norm resolved, low-rank updates merged."""
        return SSLFrontend(plain_encoder(self.encoder).requires_grad_(False), name).eval()

    def parameter_groups(self, settings: FinetuneSettings) -> list[dict[str, Any]]:
        """Trained parameters for the optimizer, with the learning rate of each group as ``peak``.

        The head has the full rate, block n the ``layer_decay``-fold of it, block n - 1 that once more,
        and all below block 1 once more than block 1.
        """
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                key = (self._height(name), parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        return [
            {
                "params": parameters,
                "peak": settings.learning_rate * settings.layer_decay**height,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (height, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
        ]

    def _height(self, name: str) -> int:
        """Steps down from the head."""
        n_layers = self.encoder.n_layers
        parts = name.split(".")
        if parts[:3] == ["encoder", "encoder", "layers"]:
            return n_layers - int(parts[3])
        final_norm = self.encoder.config.do_stable_layer_norm and parts[2:3] == ["layer_norm"]
        return 0 if parts[0] in ("projector", "classifier") or final_norm else n_layers + 1


def start_model(
    name: str, n_layers: int | None, revision: str | None, settings: FinetuneSettings
) -> tuple[FinetuneModel, ModelSource]:
    """The model before its first step: pre-trained encoder, new head drawn from torch's global state.

    Raises:
        UsageError: a front-end that is no SSL model, or more layers than it has.
        CheckpointError: weights that cannot be found or do not fit.
    """
    if name in FRONTENDS and FRONTENDS[name].place != "voxfide.frontends.ssl:make":
        raise UsageError(f"front-end {name} cannot be fine-tuned (expected wav2vec 2.0, HuBERT or WavLM)")
    source = locate((FRONTENDS[name].hub_id or name) if name in FRONTENDS else name, revision)
    encoder = load_encoder(source.folder, n_layers, head_states=True)
    mask = torch.zeros(encoder.config.hidden_size)
    for key, read in stored_tensors(source.folder):
        if plain_name(key) == "masked_spec_embed":
            mask = read().float()
    regularisation = Regularisation.of(read_json(source.folder / "config.json"), settings)
    return FinetuneModel(encoder, regularisation, mask, settings), source


def set_noise(encoder: SSLEncoder, regularisation: Regularisation) -> None:
    """Sets the rates of dropout and of left-out blocks; they act in training mode only."""
    r = regularisation
    encoder.encoder.layerdrop = r.layerdrop
    encoder.encoder.dropout.p = r.hidden_dropout
    for module in encoder.modules():
        if isinstance(module, FeatureProjection):
            module.dropout.p = r.feat_proj_dropout
        elif isinstance(module, Attention):
            module.dropout = r.attention_dropout
        elif isinstance(module, FeedForward):
            module.intermediate_dropout.p = r.activation_dropout
            module.output_dropout.p = r.hidden_dropout
        elif isinstance(module, TransformerLayer):
            module.dropout.p = r.hidden_dropout


def generators(keys: Sequence[int] | None, n: int) -> list[torch.Generator | None]:
    """A generator for each of ``n`` utterances; None stands for torch's global state."""
    return [None] * n if keys is None else [torch.Generator().manual_seed(key) for key in keys]


def span_mask(
    size: int, share: float, length: int, at_least: int, chance: torch.Generator | None = None
) -> Tensor:
    """``(size,)`` bool: spans of ``length`` at random places, which may overlap.

    As many as cover ``share`` of the axis if none overlap (rounded up or down by chance), at least
    ``at_least``, and no more than fit side by side: none at all where not even one fits.
    """
    wanted = int(share * size / length + float(torch.rand((), generator=chance)))
    count = min(max(wanted, at_least), size // length)
    mask = torch.zeros(size, dtype=torch.bool)
    if count:
        starts = torch.randperm(size - length + 1, generator=chance)[:count]
        mask[(starts[:, None] + torch.arange(length)).flatten()] = True
    return mask


def add_lora(encoder: SSLEncoder, rank: int, alpha: int) -> None:
    """Puts low-rank updates beside the attention's linear maps; they alone are trained.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingDependencyError("LoRA needs peft (pip install 'voxfide[lora]')") from None
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(LORA_TARGETS), lora_dropout=0.0)
    inject_adapter_in_model(config, encoder, adapter_name=ADAPTER)


def plain_encoder(encoder: SSLEncoder) -> SSLEncoder:
    """A copy of an encoder in training, with the parameters of one that is not."""
    with torch.device("meta"):
        copy = SSLEncoder(encoder.config, encoder.n_layers, head_states=True)
    copy.load_state_dict(plain_state(encoder), assign=True)
    return copy


def plain_state(encoder: SSLEncoder) -> dict[str, Tensor]:
    """Copies of an encoder's tensors under its own names, whatever training has put around them."""
    state = {
        name: tensor.detach().float().cpu().clone() if tensor.is_floating_point() else tensor.cpu().clone()
        for name, tensor in encoder.state_dict().items()
        if ".parametrizations." not in name and ".lora_" not in name
    }
    for name, module in _wrapped(encoder):
        if is_parametrized(module):
            state[f"{name}.weight"] = module.weight.detach().float().cpu().clone()
        else:
            update = module.get_delta_weight(ADAPTER).detach().float().cpu()
            state[f"{name}.weight"] = state.pop(f"{name}.base_layer.weight") + update
            state[f"{name}.bias"] = state.pop(f"{name}.base_layer.bias")
    return state


def _wrapped(encoder: SSLEncoder) -> Iterator[tuple[str, Any]]:
    for name, module in encoder.named_modules():
        if is_parametrized(module) or hasattr(module, "get_delta_weight"):
            yield name, module
