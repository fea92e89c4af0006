"""Exported detectors: a folder of graphs, run by onnxruntime or OpenVINO, without torch.

``voxfide export`` (:mod:`voxfide.exporting`) writes the folder; what is in it is stated in docs/export.md.
"""
