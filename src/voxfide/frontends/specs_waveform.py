"""What is known of the waveform as a front-end; see :mod:`voxfide.frontends.specs`."""

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
