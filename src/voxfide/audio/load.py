"""Whole files, streams and probes: one pipeline of decode, downmix, check and resample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType

import numpy as np

from voxfide.audio.decode import EXPECTED, WHOLE, Decoder, open_decoder
from voxfide.audio.info import MAX_SAMPLE_RATE, Audio, AudioInfo
from voxfide.audio.resample import Resampler, resampled_length
from voxfide.audio.signal_check import SignalCheck
from voxfide.audio.sniff import mislabelled, sniff
from voxfide.audio.source import AudioSource, open_source
from voxfide.audio.structure import missing_part, open_end
from voxfide.errors import EmptyAudioError, TruncatedAudioError, UsageError
from voxfide.types import SAMPLE_RATE, Float32Array, Seconds

_MAX_STEP = 1 << 17  # output samples made at a time, so that upsampling needs no more memory


def load_audio(
    source: AudioSource,
    *,
    sample_rate: int = SAMPLE_RATE,
    channel: int | None = None,
    max_duration: Seconds | None = 3600.0,
    allow_silent: bool = False,
    allow_truncated: bool = False,
) -> Audio:
    """Reads a whole recording as float32 mono at ``sample_rate``.

    Takes wav, flac, ogg, opus, mp3, m4a/aac, amr, and the first audio track of mp4, webm,
    mkv and whatever else libsndfile or FFmpeg know; content decides, never the file name.
    Integer PCM is scaled by its full scale, floating point taken as it is. Encoder delay
    and padding are trimmed where the container declares them (Xing/LAME tag, Opus
    pre-skip, edit list). ``n`` source samples become ``round(n · target / source)``.

    Args:
        source: path, bytes, or binary file object, read from its position on (the
            position afterwards is undefined); one that cannot seek is buffered, 2 GiB at
            most.
        sample_rate: target rate, Hz.
        channel: the one channel to take, from 0; ``None``: the mean of all.
        max_duration: limit in seconds of decoded audio, or ``None``.
        allow_silent: accept digital silence.
        allow_truncated: of a file that breaks off or decodes only in part, take what
            precedes, with a warning in ``info``.

    Raises:
        AudioNotFoundError: no such file, a directory, unreadable.
        NotAudioError: the content is no audio, or its header is absurd.
        EmptyAudioError: no bytes or no samples.
        TruncatedAudioError: the container promises more than it holds, or decoding fails
            on the way.
        NonFiniteAudioError: NaN or infinite samples; says where the first one is.
        SilentAudioError: no sample reaches one 16-bit step, or all are the same.
        AudioTooLongError: more than ``max_duration``.
        UsageError: an argument that cannot be, such as a channel that is not there.
    """
    stream = AudioStream(source, sample_rate, channel, max_duration, allow_silent, allow_truncated)
    with stream:
        pieces = list(stream._pieces())
        return Audio(np.concatenate(pieces), sample_rate, stream.info)


def stream_audio(
    source: AudioSource,
    *,
    chunk: Seconds = 30.0,
    sample_rate: int = SAMPLE_RATE,
    channel: int | None = None,
    max_duration: Seconds | None = None,
    allow_silent: bool = False,
    allow_truncated: bool = False,
) -> AudioStream:
    """Reads a recording in chunks of ``chunk`` seconds, in constant memory.

    The chunks joined together are the samples of :func:`load_audio`, bit for bit, whatever
    the chunk length. Use it as a context manager::

        with stream_audio("interview.m4a") as stream:
            for waveform in stream:  # (samples,) float32, all of one length but the last
                ...
        print(stream.info.duration)

    Arguments and errors are those of :func:`load_audio`. What can be seen in the header is
    raised here; what shows on the way is raised by the iteration, after the chunks before
    it (silence and emptiness at its end).
    """
    if not chunk * sample_rate >= 1 or math.isinf(chunk):
        raise UsageError(f"expected a chunk of at least one sample, got {chunk} s at {sample_rate} Hz")
    return AudioStream(
        source, sample_rate, channel, max_duration, allow_silent, allow_truncated, round(chunk * sample_rate)
    )


def probe_audio(source: AudioSource) -> AudioInfo:
    """What the header says, without decoding the audio.

    ``duration`` is as declared or as FFmpeg estimates it from the bit rate, NaN if unknown;
    ``n_samples`` is what that makes at 16 kHz, 0 if unknown. A truncated file is described
    with a warning. Raises what :func:`load_audio` raises for a file that cannot be opened.
    """
    with AudioStream(source, SAMPLE_RATE, None, None, True, True) as stream:
        return stream._declared_info()


class AudioStream:
    """An open recording; made by :func:`stream_audio`.

    Iterates over ``(samples,)`` float32 chunks, once. A context manager: leaving it closes
    the file; so does the end of the iteration, or an error in it.

    Attributes:
        sample_rate: of the chunks, Hz.
    """

    def __init__(
        self,
        source: AudioSource,
        sample_rate: int,
        channel: int | None,
        max_duration: Seconds | None,
        allow_silent: bool,
        allow_truncated: bool,
        chunk_samples: int = 1 << 16,
    ) -> None:
        if not 0 < sample_rate <= MAX_SAMPLE_RATE:
            raise UsageError(f"expected a sample rate of 1…{MAX_SAMPLE_RATE:,} Hz, got {sample_rate}")
        if max_duration is not None and not max_duration > 0:
            raise UsageError(f"expected a positive max_duration or None, got {max_duration}")
        self.sample_rate = sample_rate
        self._allow_truncated = allow_truncated
        self._chunk_samples = chunk_samples
        self._warnings: list[str] = []
        self._broken: str | None = None
        self._info: AudioInfo | None = None
        with ExitStack() as closing:
            self._decoder = self._open(source, closing)
            self._check = SignalCheck(
                self._label,
                self._decoder.sample_rate,
                self._decoder.channels,
                channel,
                max_duration,
                allow_silent,
            )
            if self._decoder.is_exact and self._decoder.n_declared is not None:
                self._check.check_length(self._decoder.n_declared)
            self._closing = closing.pop_all()
        self._chunks = self._rechunked()

    def _open(self, source: AudioSource, closing: ExitStack) -> Decoder:
        self._label, file = open_source(source, closing)
        if file.size == 0:
            file.check()
            raise EmptyAudioError(self._label, "holds no bytes", EXPECTED)
        found = sniff(file)
        missing, doubt = missing_part(file, found), open_end(file, found)
        file.check()
        decoder = open_decoder(file, self._label, found, missing)
        closing.callback(decoder.close)
        if missing is not None:
            self._break_off(missing, decoder)
        doubts = (mislabelled(self._label, decoder.container), doubt)
        self._warnings.extend(text for text in doubts if text)
        return decoder

    def _break_off(self, reason: str, decoder: Decoder) -> None:
        if not self._allow_truncated:
            raise TruncatedAudioError(self._label, f"truncated {decoder.container}: {reason}", WHOLE)
        self._broken = reason
        self._warnings.append(f"truncated: {reason}")

    def _pieces(self) -> Iterator[Float32Array]:
        """The resampled signal in pieces of any length; completes :attr:`info`."""
        resampler = None
        n_samples = 0
        with self._closing:
            for signal in self._signal():
                rate = self._decoder.sample_rate
                if resampler is None:
                    resampler = Resampler(rate, self.sample_rate)
                step = max(1, _MAX_STEP * rate // self.sample_rate)
                for start in range(0, len(signal), step):
                    piece = self._check.finite(resampler.push(signal[start : start + step]))
                    n_samples += len(piece)
                    yield piece
            tail = resampler.flush() if resampler else np.zeros(0, np.float32)
            self._finish(n_samples + len(tail))
            yield self._check.finite(tail)

    def _signal(self) -> Iterator[Float32Array]:
        """The downmixed, checked signal at the source's rate."""
        try:
            for block in self._decoder.blocks():
                yield self._check.push(block, self._decoder.sample_rate)
        except TruncatedAudioError as error:
            if not self._allow_truncated:
                raise
            self._broken = error.reason
            self._warnings.append(f"truncated: {error.reason}")

    def _finish(self, n_samples: int) -> None:
        check, decoder = self._check, self._decoder
        if check.n_samples == 0:
            if self._broken is not None:
                raise TruncatedAudioError(
                    self._label, f"no sample survives: {self._broken}", "the whole file"
                )
            raise EmptyAudioError(self._label, "holds no samples", "at least one sample of audio")
        check.finish()
        warnings = (*self._warnings, *decoder.warnings, *check.warnings)
        self._info = self._describe(check.n_samples / decoder.sample_rate, n_samples, warnings)

    def _describe(self, duration: Seconds, n_samples: int, warnings: tuple[str, ...]) -> AudioInfo:
        decoder = self._decoder
        return AudioInfo(
            path=self._label,
            container=decoder.container,
            codec=decoder.codec,
            sample_rate=decoder.sample_rate,
            channels=decoder.channels,
            duration=duration,
            bit_depth=decoder.bit_depth,
            n_samples=n_samples,
            decoder=decoder.name,
            warnings=warnings,
        )

    def _declared_info(self) -> AudioInfo:
        """What the header says; see :func:`probe_audio`."""
        n, rate = self._decoder.n_declared, self._decoder.sample_rate
        duration = math.nan if n is None else n / rate
        n_samples = 0 if n is None else resampled_length(n, rate, self.sample_rate)
        return self._describe(duration, n_samples, (*self._warnings, *self._decoder.warnings))

    def _rechunked(self) -> Iterator[Float32Array]:
        held: list[Float32Array] = []
        n_held = 0
        for piece in self._pieces():
            held.append(piece)
            n_held += len(piece)
            if n_held < self._chunk_samples:
                continue
            joined = np.concatenate(held)
            whole = n_held - n_held % self._chunk_samples
            for start in range(0, whole, self._chunk_samples):
                yield joined[start : start + self._chunk_samples].copy()
            held, n_held = [joined[whole:].copy()], n_held - whole
        if n_held:
            yield np.concatenate(held)

    @property
    def info(self) -> AudioInfo:
        """What was read; complete only once the iteration has ended.

        Raises:
            UsageError: before that.
        """
        if self._info is None:
            raise UsageError("AudioStream.info is known once all chunks have been read")
        return self._info

    def close(self) -> None:
        """Closes the file; more chunks cannot be read. May be called again."""
        self._chunks.close()  # type: ignore[attr-defined]
        self._closing.close()

    def __iter__(self) -> AudioStream:
        return self

    def __next__(self) -> Float32Array:
        return next(self._chunks)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
