"""What is known of front-ends without weights, beside LFCC; see :mod:`voxfide.frontends.specs`."""

from __future__ import annotations

from voxfide.frontends.specs import FRONTENDS, FrontendSpec

FRONTENDS.register(
    FrontendSpec(
        name="waveform",
        summary="the samples themselves, for back-ends such as aasist-raw; no weights",
        place="voxfide.frontends.waveform:make",
        n_layers=1,
        dim=1,
        n_parameters=0,
        frame_shift_ms=0.0625,
        training_data="none",
        licence="Apache-2.0",
        link="https://arxiv.org/abs/2110.01200",
        open_condition=None,
        citation="Jung et al. 2022",
    )
)

FRONTENDS.register(
    FrontendSpec(
        name="lfcc-moments",
        summary="spread and kurtosis over time of LFCC, blind to linear filters; no weights",
        place="voxfide.frontends.lfcc_moments:make",
        n_layers=1,
        dim=780,
        n_parameters=0,
        frame_shift_ms=30_000.0,
        training_data="none",
        licence="Apache-2.0",
        link="https://www.isca-archive.org/interspeech_2015/sahidullah15_interspeech.html",
        open_condition=None,
        citation="after Sahidullah et al. 2015",
    )
)
