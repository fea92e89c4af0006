"""Detectors as graphs for onnxruntime and OpenVINO: from the waveform to the calibrated score.

:func:`voxfide.exporting.export.export_detector` writes a folder that :mod:`voxfide.exported` runs without
torch. Every module of :mod:`voxfide.exporting.graphs` works on padded batches of any size and length, and an
utterance's score does not depend on its batch.
"""
