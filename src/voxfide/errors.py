"""Typed errors: every one says what was wrong, where, and what was expected.

The command line turns a :class:`VoxfideError` into one line on stderr and exit
code 2; a batch job records a :class:`AudioError` in its failures table and goes on.
"""

from __future__ import annotations

from collections.abc import Sequence


def first_few(problems: Sequence[str], most: int = 5) -> str:
    """The first ``most`` problems in one line, and how many more there are."""
    more = f" … and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more


class VoxfideError(Exception):
    """Base of everything voxfide raises on purpose."""


class UsageError(VoxfideError):
    """An argument or a combination of arguments that cannot work."""

    @classmethod
    def listing(cls, title: str, problems: Sequence[str]) -> UsageError:
        """An error that says everything that is wrong, a line each."""
        return cls("\n  ".join([f"{title}: {len(problems)} problem(s)", *problems]))


class UnknownNameError(UsageError):
    """A name that a registry does not hold; says which names it holds."""


class MissingDependencyError(VoxfideError):
    """An optional package is needed; says which extra installs it."""

    @classmethod
    def of(cls, error: ModuleNotFoundError, what: str) -> MissingDependencyError | None:
        """The error that says how to get what could not be imported; None if no extra brings that.

        Args:
            error: of the import.
            what: needs it, such as ``voxfide train``.
        """
        place = (error.name or "").partition(".")[0]
        if place not in _EXTRAS:
            return None
        package, *extras = _EXTRAS[place]
        names = " or ".join(f"'voxfide[{extra}]'" for extra in extras)
        return cls(f"{what} needs {package}: pip install {names}")


_EXTRAS = {
    "torch": ("PyTorch", "full"),
    "sklearn": ("scikit-learn", "full"),
    "scipy": ("SciPy", "full"),
    "pyarrow": ("pyarrow", "full", "runtime"),
    "safetensors": ("safetensors", "full"),
    "huggingface_hub": ("huggingface_hub", "full"),
    "accelerate": ("accelerate", "full"),
    "yaml": ("PyYAML", "full"),
    "silero_vad": ("silero-vad", "full"),
    "matplotlib": ("Matplotlib", "full"),
    "reportlab": ("ReportLab", "pdf"),
    "transformers": ("transformers", "lora"),
    "onnxruntime": ("onnxruntime", "runtime"),
    "openvino": ("OpenVINO", "runtime-openvino"),
    "fastapi": ("FastAPI", "serve"),
    "starlette": ("Starlette", "serve"),
    "uvicorn": ("uvicorn", "serve"),
    "websockets": ("websockets", "serve"),
}
"""Modules that an installation may do without, to the package and the extras that bring it."""


class ManifestError(VoxfideError):
    """A manifest that cannot be used. ``problems`` holds every one that was found."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = list(problems)
        shown = self.problems[:20]
        more = len(self.problems) - len(shown)
        lines = [f"{source}: {len(self.problems)} problem(s)", *(f"  {p}" for p in shown)]
        if more:
            lines.append(f"  … and {more} more")
        super().__init__("\n".join(lines))


class ScoreFileError(VoxfideError):
    """A score file that cannot be read or does not fit its key."""


class LostProcessError(VoxfideError):
    """Another process of a training run has ended, or does not answer."""


class CheckpointError(VoxfideError):
    """Model weights or a model configuration that cannot be used."""


class StoreError(VoxfideError):
    """An embedding store that cannot be read or does not fit the request."""


class AudioError(VoxfideError):
    """Audio that cannot be used.

    Attributes:
        path: the file (or ``<bytes>``, ``<file object>``) it came from.
        reason: what is wrong with it.
        expected: what would have been accepted.
    """

    kind = "audio"

    def __init__(self, path: str, reason: str, expected: str) -> None:
        self.path = path
        self.reason = reason
        self.expected = expected
        super().__init__(f"{path}: {reason} (expected {expected})")

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str, str]]:
        return type(self), (self.path, self.reason, self.expected)


class AudioNotFoundError(AudioError):
    """No such file, or not a regular file, or not readable."""

    kind = "not-found"


class NotAudioError(AudioError):
    """The content is no audio that any decoder here knows, or holds no audio track."""

    kind = "not-audio"


class EmptyAudioError(AudioError):
    """A file of zero bytes or an audio track of zero samples."""

    kind = "empty"


class TruncatedAudioError(AudioError):
    """The container promises more audio than it holds, or decoding broke off."""

    kind = "truncated"


class SilentAudioError(AudioError):
    """Digital silence: there is nothing to analyse."""

    kind = "silent"


class NonFiniteAudioError(AudioError):
    """Samples that are NaN or infinite."""

    kind = "non-finite"


class AudioTooLongError(AudioError):
    """More audio than the limit allows to hold in memory at once."""

    kind = "too-long"


class AudioTooShortError(AudioError):
    """Fewer samples than the front-end needs for one frame."""

    kind = "too-short"


class DecoderCrashError(AudioError):
    """The decoder process died while it worked on this file."""

    kind = "decoder-crash"


class WorkerCrashError(AudioError):
    """The process that analysed this file died, and did so again when it had this file alone."""

    kind = "worker-crash"
