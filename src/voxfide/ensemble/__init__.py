"""An ensemble of detectors as one detector: shared decoding, shared front-ends, learnt fusion."""

from voxfide.ensemble.detector import EnsembleDetector

__all__ = ["EnsembleDetector"]
