"""What is known of each registered front-end, without importing any of them.

Parameter counts are those of the encoder that is built here with all layers (a test
recomputes them); licences and training data are as the releases state them. ASVspoof
5's open condition excludes Libri-Light, Multilingual LibriSpeech and MUSAN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from voxfide.errors import UsageError
from voxfide.registry import Registry


@dataclass(frozen=True)
class FrontendSpec:
    """One registry line.

    Attributes:
        place: ``module:function`` that makes it, called as
            ``(name, n_layers, revision=..., precision=..., **options)``.
        n_layers, dim, n_parameters: of the full model.
        open_condition: whether ASVspoof 5's open condition allows it; None where
            there is no training data.
        weights_file: name of the official release's weights file, where that is no model folder.
        architecture: configuration of the official release, for SSL models.
    """

    name: str
    summary: str
    place: str
    n_layers: int
    dim: int
    n_parameters: int
    frame_shift_ms: float
    training_data: str
    licence: str
    link: str
    open_condition: bool | None
    hub_id: str | None = None
    weights_file: str = ""
    citation: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)

    def check_layers(self, n_layers: int | None) -> None:
        """Raises :class:`UsageError` where layers are asked for that the model does not have."""
        if n_layers is not None and not 1 <= n_layers <= self.n_layers:
            raise UsageError(
                f"front-end {self.name}: {n_layers} layers asked for (expected 1 to {self.n_layers})"
            )


FRONTENDS: Registry[FrontendSpec] = Registry("front-end")

FRONTENDS.register(
    FrontendSpec(
        name="lfcc",
        summary="linear-frequency cepstral coefficients and deltas, the ASVspoof 2019 baseline; no weights",
        place="voxfide.frontends.lfcc:make",
        n_layers=1,
        dim=60,
        n_parameters=0,
        frame_shift_ms=10.0,
        training_data="none",
        licence="Apache-2.0",
        link="https://www.isca-archive.org/interspeech_2015/sahidullah15_interspeech.html",
        open_condition=None,
        citation="Sahidullah et al. 2015",
    )
)

_LIBRISPEECH = "LibriSpeech 960 h"
_LIBRILIGHT = "Libri-Light 60 kh"
_XLSR = "436 kh in 128 languages: VoxPopuli, MLS, Common Voice, VoxLingua107, BABEL"
_WAVLM = "94 kh: Libri-Light, GigaSpeech, VoxPopuli"
_CC = "CC-BY-SA-3.0"

_LARGE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
}  # fmt: skip
_2B = {**_LARGE, "hidden_size": 1920, "num_hidden_layers": 48, "intermediate_size": 7680}
_DISTIL = {"num_hidden_layers": 2, "feat_proj_layer_norm": False}


def _ssl(
    name: str,
    hub_id: str,
    summary: str,
    architecture: Mapping[str, Any],
    n_parameters: int,
    training_data: str,
    *,
    open_condition: bool,
    citation: str,
    licence: str = "Apache-2.0",
) -> None:
    family = next(t for t in ("wav2vec2", "hubert", "wavlm") if t in name)
    FRONTENDS.register(
        FrontendSpec(
            name=name,
            summary=summary,
            place="voxfide.frontends.ssl:make",
            n_layers=architecture.get("num_hidden_layers", 12),
            dim=architecture.get("hidden_size", 768),
            n_parameters=n_parameters,
            frame_shift_ms=20.0,
            training_data=training_data,
            licence=licence,
            link=f"https://huggingface.co/{hub_id}",
            open_condition=open_condition,
            hub_id=hub_id,
            citation=citation,
            architecture={"model_type": family, **architecture},
        )
    )


_ssl(
    "wav2vec2-base",
    "facebook/wav2vec2-base",
    "wav2vec 2.0 base, contrastive",
    {},
    94_370_816,
    _LIBRISPEECH,
    open_condition=True,
    citation="Baevski et al. 2020",
)
_ssl(
    "wav2vec2-xls-r-300m",
    "facebook/wav2vec2-xls-r-300m",
    "wav2vec 2.0 large, cross-lingual",
    _LARGE,
    315_435_520,
    _XLSR,
    open_condition=False,
    citation="Babu et al. 2022",
)
_ssl(
    "wav2vec2-xls-r-2b",
    "facebook/wav2vec2-xls-r-2b",
    "wav2vec 2.0 at 2 billion parameters, cross-lingual",
    _2B,
    2_159_253_760,
    _XLSR,
    open_condition=False,
    citation="Babu et al. 2022",
)
_ssl(
    "hubert-base-ls960",
    "facebook/hubert-base-ls960",
    "HuBERT base, masked prediction of clusters",
    {},
    94_370_816,
    _LIBRISPEECH,
    open_condition=True,
    citation="Hsu et al. 2021",
)
_ssl(
    "hubert-large-ll60k",
    "facebook/hubert-large-ll60k",
    "HuBERT large",
    _LARGE,
    315_435_520,
    _LIBRILIGHT,
    open_condition=False,
    citation="Hsu et al. 2021",
)
_ssl(
    "distilhubert",
    "ntu-spml/distilhubert",
    "HuBERT base distilled into two layers",
    _DISTIL,
    23_491_072,
    _LIBRISPEECH,
    open_condition=True,
    citation="Chang et al. 2022",
)
_ssl(
    "wavlm-base",
    "microsoft/wavlm-base",
    "WavLM base: HuBERT with denoising and gated relative positions",
    {},
    94_381_040,
    _LIBRISPEECH,
    open_condition=True,
    citation="Chen et al. 2022",
    licence=_CC,
)
_ssl(
    "wavlm-base-plus",
    "microsoft/wavlm-base-plus",
    "WavLM base on 94 kh",
    {},
    94_381_040,
    _WAVLM,
    open_condition=False,
    citation="Chen et al. 2022",
    licence=_CC,
)
_ssl(
    "wavlm-large",
    "microsoft/wavlm-large",
    "WavLM large",
    {**_LARGE, "conv_bias": False},
    315_449_920,
    _WAVLM,
    open_condition=False,
    citation="Chen et al. 2022",
    licence=_CC,
)
