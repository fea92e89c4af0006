"""The model that is pre-trained: an encoder whose masked frames are to name their cluster.

W.-N. Hsu et al., "HuBERT", TASLP 2021: the convolutions' features are masked after their projection; each
frame of the last block is projected and compared with an embedding of every cluster by cosine similarity
over a temperature of 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from voxfide.frontends.checkpoint import load_encoder, locate, plain_name, save_encoder, stored_tensors
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_model import SSLEncoder, normalise
from voxfide.training.finetune_model import plain_encoder, set_noise, span_mask
from voxfide.training.finetune_settings import Regularisation
from voxfide.training.pretrain_settings import PretrainSettings, require_grid

TEMPERATURE: Final = 0.1
CODE_DIM: Final = 128
"""Width in which frames and clusters are compared."""

DEVIATION: Final = 0.02
"""Of the first weights of linear maps (BERT's)."""


class Predictions(NamedTuple):
    """What the model says of a batch, packed.

    Attributes:
        logits: ``(frames, clusters)`` float32.
        mask: ``(frames,)`` bool, which frames it could not see.
        penalty: mean square of the convolutions' features.
    """

    logits: Tensor
    mask: Tensor
    penalty: Tensor


class PretrainModel(nn.Module):
    """Waveforms to cluster logits of every frame.

    Args:
        encoder: with ``head_states``; it is trained in place.
        settings: of the training.
        mask: ``(dim,)``, what stands for masked frames at first; drawn where left out.
    """

    def __init__(self, encoder: SSLEncoder, settings: PretrainSettings, mask: Tensor | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings = settings
        dim = encoder.config.hidden_size
        self.masked_spec_embed = nn.Parameter(torch.rand(dim) if mask is None else mask.clone())
        self.projection = nn.Linear(dim, CODE_DIM)
        nn.init.normal_(self.projection.weight, std=DEVIATION)
        nn.init.zeros_(self.projection.bias)
        self.codes = nn.Parameter(torch.rand(settings.clusters, CODE_DIM) - 0.5)
        s = settings
        noise = Regularisation(s.dropout, s.dropout, s.dropout, 0.0, s.layerdrop, mask_time_prob=0.0)
        set_noise(encoder, noise)
        encoder.requires_grad_(True)
        if not encoder.config.conv_pos_batch_norm:
            weight_norm(encoder.encoder.pos_conv_embed.conv, dim=2)

    def forward(self, waveforms: Sequence[Tensor], masks: Sequence[Tensor] | None = None) -> Predictions:
        """Logits of waveforms ``(samples,)``, a part of whose frames are masked.

        Args:
            masks: which frames ``(frames,)`` bool of each; by default at random.
        """
        s = self.settings
        if self.encoder.config.do_normalize:
            waveforms = [normalise(waveform) for waveform in waveforms]
        parts = [self.encoder.feature_extractor(waveform) for waveform in waveforms]
        frames = [len(part) for part in parts]
        features = torch.cat(parts)
        penalty = features.float().square().mean()
        if s.conv_gradient != 1:
            features = features * s.conv_gradient + features.detach() * (1 - s.conv_gradient)
        x = self.encoder.feature_projection(features)
        if masks is None:
            masks = [draw_mask(s, n) for n in frames]
        mask = torch.cat(list(masks)).to(x.device)
        x = torch.where(mask[:, None], self.masked_spec_embed.to(x.dtype), x)
        *_, last = self.encoder.encoder(x, frames)
        codes = F.normalize(self.codes.float(), dim=1)
        logits = F.normalize(self.projection(last).float(), dim=1) @ codes.T / TEMPERATURE
        return Predictions(logits, mask, penalty)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, object]]:
        """Parameters for the optimizer; weights decay, gains, offsets and embeddings do not."""
        plain = {"masked_spec_embed", "codes"}
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.named_parameters():
            is_matrix = sum(size > 1 for size in parameter.shape) > 1
            groups[is_matrix and name not in plain].append(parameter)
        return [
            {"params": groups[True], "weight_decay": weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ]

    def save(self, folder: Path) -> None:
        """Writes the encoder as a model folder that ``transformers`` and front-ends load."""
        save_encoder(plain_encoder(self.encoder), folder, self.masked_spec_embed)


@dataclass(frozen=True)
class Start:
    """Where the encoder comes from: an architecture, or an earlier model.

    Attributes:
        config: of a new model with random weights; or
        name: a registered SSL model, a hub id or a folder, all layers of which are taken.
    """

    config: SSLConfig | None = None
    name: str | None = None

    def model(self, settings: PretrainSettings) -> PretrainModel:
        """The model before its first step; what is random is drawn from torch's global state.

        Raises:
            UsageError: frames that are not 25 ms every 20 ms.
            CheckpointError: weights that cannot be found or do not fit.
        """
        if self.config is not None:
            encoder = SSLEncoder(require_grid(self.config, "architecture"), head_states=True)
            draw_weights(encoder)
            return PretrainModel(encoder, settings)
        folder = locate(str(self.name)).folder
        require_grid(SSLConfig.from_folder(folder), str(self.name))
        encoder = load_encoder(folder, head_states=True)
        masks = [read().float() for key, read in stored_tensors(folder) if plain_name(key) == MASK]
        return PretrainModel(encoder, settings, masks[0] if masks and masks[0].any() else None)


def draw_mask(settings: PretrainSettings, frames: int, chance: torch.Generator | None = None) -> Tensor:
    """Which of the ``frames`` are masked, drawn from ``chance``, or from torch's global state."""
    return span_mask(frames, settings.mask_prob, settings.mask_length, 1, chance)


MASK: Final = "masked_spec_embed"


def draw_weights(encoder: SSLEncoder) -> None:
    """First weights as fairseq draws them: linear maps as in BERT, convolutions as He et al. (2015)."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=DEVIATION)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=DEVIATION)
        elif isinstance(module, nn.Conv1d) and module.groups == 1:
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    conv = encoder.encoder.pos_conv_embed.conv
    nn.init.normal_(conv.weight, std=math.sqrt(4 / (conv.kernel_size[0] * conv.in_channels)))
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
