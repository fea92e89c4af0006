"""The augmentations by name: families with settings, and fixed combinations of them."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

from voxfide.registry import Registry, load_object


@dataclass(frozen=True)
class AugmentationSpec:
    """One registry line.

    Attributes:
        place: module and class of a family; empty for a combination.
        preset: the specification of a combination; empty for a family.
    """

    name: str
    summary: str
    place: str = ""
    preset: str = ""
    citation: str = "-"

    def settings(self) -> dict[str, str]:
        """A family's settings and their defaults, as text; none of a combination."""
        if self.preset:
            return {}
        shown = {}
        for field in fields(load_object(self.place)):
            shown[field.name] = "required" if field.default is MISSING else str(field.default)
        return shown


AUGMENTATIONS: Registry[AugmentationSpec] = Registry("augmentation")


def _family(name: str, place: str, summary: str, citation: str = "-") -> None:
    AUGMENTATIONS.register(
        AugmentationSpec(name, summary, place=f"voxfide.augment.{place}", citation=citation)
    )


def _preset(name: str, preset: str, summary: str, citation: str = "-") -> None:
    AUGMENTATIONS.register(AugmentationSpec(name, summary, preset=preset, citation=citation))


_family("noise", "noise:WhiteNoise", "white noise at a signal-to-noise ratio")
_family("background", "noise:RecordedNoise", "noise from a file or folder at a signal-to-noise ratio")
_family(
    "reverb",
    "reverberation:Reverberation",
    "reverberation, by recorded impulse responses or a simulated room",
    "Polack 1988; Moorer 1979",
)
_family(
    "rawboost",
    "rawboost:RawBoost",
    "RawBoost, algorithms 1 to 8",
    "Tak et al., ICASSP 2022, arXiv:2111.04433",
)
_family("codec", "codec:Codec", "lossy coding and back: media and telephone codecs")
_family("bandlimit", "band:BandLimit", "down to a lower sample rate and back: 8 kHz by default")
_family("bandpass", "band:BandPass", "band-pass filter without delay: 300 to 3400 Hz by default")
_family("speed", "speed:Speed", "faster or slower, pitch and all", "Ko et al., Interspeech 2015")
_family("gain", "gain:Gain", "louder or softer")
_family(
    "resynthesis",
    "resynthesis:Resynthesis",
    "copy-synthesis: the speech made anew, and labelled spoof; only in copies that are written",
)
_family("one-of", "combine:OneOf", "one of several, at random: A | B")
_family("chain", "combine:Chain", "one after the other: A + B")
_family("maybe", "combine:Maybe", "with a probability: 0.3 * A")
_preset(
    "combei2024",
    "noise:snr=25 | reverb",
    "white noise at 25 dB or reverberation",
    "Combei et al. 2024, section 3.1",
)
_preset(
    "telephone",
    "bandpass + codec:format=mu-law | bandpass + codec:format=a-law | bandpass + codec:format=gsm | "
    "bandpass + codec:format=amr-nb,kbps=4.75..12.2 | codec:format=g722",
    "a telephone line: its band, then one of five codecs",
)
_preset(
    "media",
    "codec:format=mp3,kbps=16..128 | codec:format=aac,kbps=16..96 | codec:format=opus,kbps=8..64 | "
    "codec:format=vorbis,kbps=16..52",
    "one of four media codecs, at some bit rate",
)
_preset(
    "copy-synthesis",
    "resynthesis:route=griffin_lim_mel | resynthesis:route=lpc_pulse | resynthesis:route=sinusoidal | "
    "resynthesis:route=cepstral_vocoder | resynthesis:route=psola | resynthesis:route=phase_randomised | "
    "resynthesis:route=noise_vocoder",
    "one of seven vocoders, at random; the outcome is labelled spoof",
)
