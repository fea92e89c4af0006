"""What is known of BEATs, DeCoAR 2.0 and LEAF; see :mod:`voxfide.frontends.specs`."""

from __future__ import annotations

from voxfide.frontends.specs import FRONTENDS, FrontendSpec

FRONTENDS.register(
    FrontendSpec(
        name="leaf",
        summary="learnable Gabor filter bank with PCEN, at its initial values or with given weights",
        place="voxfide.frontends.leaf:make",
        n_layers=1,
        dim=40,
        n_parameters=320,
        frame_shift_ms=10.0,
        training_data="none (initial values)",
        licence="MIT",
        link="https://github.com/SarthakYadav/leaf-pytorch",
        open_condition=None,
        weights_file="the .pth file of a leaf-pytorch classifier",
        citation="Zeghidour et al. 2021",
    )
)
FRONTENDS.register(
    FrontendSpec(
        name="beats",
        summary="BEATs base on spectrogram patches, masked prediction of acoustic tokens",
        place="voxfide.frontends.beats:make",
        n_layers=12,
        dim=768,
        n_parameters=90_311_664,
        frame_shift_ms=160.0,
        training_data="AudioSet 2M (5.8 kh, not only speech)",
        licence="MIT",
        link="https://github.com/microsoft/unilm/tree/master/beats",
        open_condition=True,
        weights_file="BEATs_iter3_plus_AS2M.pt",
        citation="Chen et al. 2023",
    )
)
FRONTENDS.register(
    FrontendSpec(
        name="decoar2",
        summary="DeCoAR 2.0, filling in of masked filter-bank frames through a vector quantiser",
        place="voxfide.frontends.decoar2:make",
        n_layers=12,
        dim=768,
        n_parameters=89_837_568,
        frame_shift_ms=20.0,
        training_data="LibriSpeech 960 h",
        licence="Apache-2.0",
        link="https://github.com/awslabs/speech-representations",
        open_condition=True,
        hub_id="s3prl/converted_ckpts",
        weights_file="checkpoint_decoar2.pt",
        citation="Ling and Liu 2020",
    )
)
