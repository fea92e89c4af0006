"""Reading audio: any container and codec to float32 mono at one rate, or a typed error.

One decoder, one downmix and one resampler serve :func:`load_audio` (whole file) and
:func:`stream_audio` (chunks, constant memory), so both give the same samples. soundfile,
PyAV and soxr are imported on first use; nothing here imports torch.
"""

from voxfide.audio.info import AUDIO_SETTINGS, Audio, AudioInfo
from voxfide.audio.load import AudioStream, load_audio, probe_audio, stream_audio
from voxfide.audio.resample import resample, resampled_length
from voxfide.audio.source import AudioSource

__all__ = [
    "AUDIO_SETTINGS",
    "Audio",
    "AudioInfo",
    "AudioSource",
    "AudioStream",
    "load_audio",
    "probe_audio",
    "resample",
    "resampled_length",
    "stream_audio",
]
