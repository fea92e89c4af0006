"""Copy-synthesis routes, waveform to waveform: each leaves the artefacts of one family of synthesis.

They serve as attacks: of the self-test corpus, and of training sets that lack a family. Every route
keeps the contract of :class:`voxfide.resynthesis.contract.Route`; adding one is a function under
:func:`voxfide.resynthesis.contract.copy_synthesis` and a line here.
"""

from __future__ import annotations

from dataclasses import dataclass

from voxfide.registry import Registry, load_object
from voxfide.resynthesis.contract import Route

__all__ = ["ROUTES", "Route", "RouteSpec"]


@dataclass(frozen=True)
class RouteSpec:
    """A route by name.

    Attributes:
        name: as it stands in a manifest's ``system`` column.
        summary: one line: what is kept, what is made anew.
        reference: the paper or standard behind it.
        place: ``"module:function"``.
    """

    name: str
    summary: str
    reference: str
    place: str

    def load(self) -> Route:
        """Imports the route."""
        route: Route = load_object(self.place)
        return route


ROUTES: Registry[RouteSpec] = Registry("resynthesis route")


def _route(name: str, module: str, summary: str, reference: str) -> None:
    ROUTES.register(RouteSpec(name, summary, reference, f"voxfide.resynthesis.{module}:{name}"))


_route(
    "griffin_lim_mel",
    "spectral",
    "80 mel magnitudes inverted by the pseudo-inverse, phase by fast Griffin-Lim",
    "Griffin & Lim, IEEE Trans. ASSP 32(2), 1984; Perraudin, Balazs & Søndergaard, WASPAA 2013",
)
_route(
    "lpc_pulse",
    "linear_prediction",
    "all-pole envelope driven by one pulse a pitch period or by white noise",
    "Atal & Hanauer, J. Acoust. Soc. Am. 50(2B), 1971",
)
_route(
    "sinusoidal",
    "sinusoidal",
    "the strongest spectral peaks of each frame as sinusoids, without the noise between them",
    "McAulay & Quatieri, IEEE Trans. ASSP 34(4), 1986; George & Smith, J. Audio Eng. Soc. 40(6), 1992",
)
_route(
    "cepstral_vocoder",
    "cepstral",
    "F0, smooth envelope and band aperiodicity; minimum-phase pulses and shaped noise",
    "Morise, Yokomori & Ozawa, IEICE Trans. E99-D(7), 2016; McCree & Barnwell, IEEE Trans. SAP 3(4), 1995",
)
_route(
    "psola",
    "psola",
    "the waveform's own periods, overlap-added under a smoothed and shifted pitch contour",
    "Moulines & Charpentier, Speech Communication 9(5-6), 1990",
)
_route(
    "phase_randomised",
    "spectral",
    "short-time magnitudes kept, phases drawn at random",
    "Paliwal & Alsteris, Speech Communication 45(2), 2005",
)
_route(
    "band_expand",
    "bands",
    "the lower half of the band kept, the upper half its spectral mirror image in four coarse bands",
    "Makhoul & Berouti, ICASSP 1979; Dietz et al., AES Convention 112, 2002",
)
_route(
    "mdct_codec",
    "coding",
    "MDCT coefficients quantised so coarsely that most of them vanish",
    "Princen, Johnson & Bradley, ICASSP 1987",
)
_route(
    "noise_vocoder",
    "bands",
    "24 band envelopes on white noise: no harmonics left",
    "Shannon et al., Science 270(5234), 1995",
)
_route(
    "adpcm",
    "coding",
    "two-bit adaptive differential PCM",
    "IMA Digital Audio Focus and Technical Working Groups, 1992; ITU-T G.726, 1990",
)
