"""Exported detectors made by hand: folders of small graphs whose scores NumPy can say.

Every sample is a frame of two layers, the sample and its square, so that windows, crops and padding show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from voxfide.calibration import CalibrationRecord, create_calibration
from voxfide.domain import DomainModel
from voxfide.exported.format import fingerprint_of, weights_key
from voxfide.files import file_sha256

WEIGHTS = {"mean": [2.0, -30.0], "mean_std": [2.0, -1.0, -30.0, 4.0], "none": [2.0, -30.0]}
"""Of the features, layer by layer."""

_HEADER = '<ir_version: 9, opset_import: ["" : 18]>\n'

_MASKED = """
  zero = Constant <value_int: int = 0> ()
  one = Constant <value_int: int = 1> ()
  axis = Constant <value_ints: ints = [1]> ()
  last = Constant <value_ints: ints = [2]> ()
  shape = Shape (waveform)
  n_samples = Gather (shape, one)
  places = Range (zero, n_samples, one)
  ends = Unsqueeze (lengths, axis)
  inside = Less (places, ends)
  mask = Cast <to: int = 1> (inside)
  n = Cast <to: int = 1> (ends)
  x = Mul (waveform, mask)
  xx = Mul (x, x)
  sum1 = ReduceSum (x, axis)
  sum2 = ReduceSum (xx, axis)
  sums = Concat <axis: int = 1> (sum1, sum2)
  means = Div (sums, n)
  features = Unsqueeze (means, last)
  frames = Identity (lengths)
"""

_SPREAD = """
  mean1 = Div (sum1, n)
  mean2 = Div (sum2, n)
  off1 = Sub (x, mean1)
  off2 = Sub (xx, mean2)
  in1 = Mul (off1, mask)
  in2 = Mul (off2, mask)
  sq1 = Mul (in1, in1)
  sq2 = Mul (in2, in2)
  dev1 = ReduceSum (sq1, axis)
  dev2 = ReduceSum (sq2, axis)
  devs = Concat <axis: int = 1> (dev1, dev2)
  deviations = Unsqueeze (devs, last)
  n3 = Unsqueeze (n, last)
  variance = Div (deviations, n3)
  std = Sqrt (variance)
  used = Concat <axis: int = 2> (features, std)
"""


def _scored(weights: list[float], calibrated: bool) -> str:
    """From ``used`` to the scores; ``score`` is 0.5 raw + 1 where the folder is calibrated so."""
    column = ", ".join(map(str, weights))
    scale, offset = (0.5, 1.0) if calibrated else (1.0, 0.0)
    return f"""
  flat = Flatten (used)
  listed = Constant <value_floats: floats = [{column}]> ()
  tall = Constant <value_ints: ints = [{len(weights)}, 1]> ()
  column = Reshape (listed, tall)
  product = MatMul (flat, column)
  flatten = Constant <value_ints: ints = [-1]> ()
  raw_score = Reshape (product, flatten)
  scale = Constant <value_float: float = {scale}> ()
  offset = Constant <value_float: float = {offset}> ()
  scaled = Mul (raw_score, scale)
  score = Add (scaled, offset)
"""


_SPEECH = """
speech (float[n, 576] windows, float[2, 1, 128] state) => (float[n] probabilities, float[2, 1, 128] state_out)
{
  axis = Constant <value_ints: ints = [1]> ()
  size = Abs (windows)
  mean = ReduceMean <keepdims: int = 0> (size, axis)
  least = Constant <value_float: float = 0.01> ()
  over = Greater (mean, least)
  probabilities = Cast <to: int = 1> (over)
  state_out = Identity (state)
}
"""


def graphs(pool: str, calibrated: bool) -> dict[str, str]:
    """Names of files to graphs in ONNX's textual form."""
    spread = pool == "mean_std"
    outputs = "float[b] raw_score, float[b] score"
    if pool != "none":
        outputs += ", float[b, 2, 1] features, int64[b] frames"
    outputs += ", float[b, 2, 1] deviations" if spread else ""
    used = _SPREAD if spread else "  used = Identity (features)\n"
    scored = _scored(WEIGHTS[pool], calibrated)
    body = f"{_MASKED}{used}{scored}"
    if pool == "none":
        body = body.replace("  frames = Identity (lengths)\n", "")
    found = {"model": f"g (float[b, t] waveform, int64[b] lengths) => ({outputs})\n{{{body}}}"}
    if pool != "none":
        inside = "  used = Identity (features)\n" + scored
        dim = 2 if spread else 1
        found["head"] = (
            f"h (float[b, 2, {dim}] features) => (float[b] raw_score, float[b] score)\n{{{inside}}}"
        )
    return found | {"speech": _SPEECH}


def expected(signal: np.ndarray, pool: str = "mean") -> float:
    """The uncalibrated score of a whole signal."""
    frames = np.stack([signal, signal**2]).astype(np.float64)
    used = frames.mean(axis=1)[:, None]
    if pool == "mean_std":
        used = np.concatenate([used, frames.std(axis=1)[:, None]], axis=1)
    return float(used.ravel() @ WEIGHTS[pool])


def write_exported(
    folder: Path,
    pool: str = "mean",
    runtime: str = "onnx",
    *,
    calibrated: bool = False,
    frames: bool = False,
    domain: DomainModel | None = None,
    **changes: Any,
) -> Path:
    """Writes the folder.

    Args:
        pool: ``none`` is a back-end on full frames.
        calibrated: by 0.5 raw + 1.
        frames: of pool ``none``: the graph also tells the scores of frames.
        domain: goes inside.
        changes: replace entries of ``config.json`` before its fingerprint is taken.
    """
    folder.mkdir(parents=True)
    made = graphs(pool, calibrated)
    if frames:  # the sample is the score of its frame
        made["model"] = made["model"].replace("float[b] score)", "float[b] score, float[b, t] frame_scores)")
        made["model"] = made["model"].rstrip("}") + "  frame_scores = Identity (x)\n}"
    names = {part: _write_graph(folder / part, text, runtime) for part, text in made.items()}
    config: dict[str, Any] = {
        "format": 1,
        "library": "voxfide",
        "kind": "exported",
        "voxfide_version": "0",
        "runtime": runtime,
        "precision": "fp32",
        "source": {"fingerprint": "none", "name": "by hand"},
        "model": {
            "graph": names["model"],
            "head": names.get("head"),
            "speech": names["speech"],
            "sha256": {path.name: file_sha256(path) for path in sorted(folder.iterdir())},
        },
        "frontend": {
            "name": "samples", "kind": "samples", "n_layers": 2, "hop_samples": 1, "min_samples": 400,
            "settings": {},
        },
        "backend": {
            "name": "sum", "config": {"frame_threshold": 0.0} if frames else {},
            "layer_weights": [0.25, 0.75],
        },
        "pool": pool,
        "crop": {"seconds": None, "position": "start", "short": "tile", "long": "cut"},
        "window_s": 30.0,
        "threshold": 0.25,
        "score": "a sum; higher means more bona fide",
        "score_kind": "uncalibrated",
        "audio": {"sample_rate": 16000},
        "training": {"sets": {"train": {"manifest": "m.csv", "n_bonafide": 1, "n_spoof": 2}}},
        "facts": {"front-end": "samples, 2 layer(s)", "back-end": "sum"},
    }  # fmt: skip
    config |= changes
    config["fingerprint"] = fingerprint_of(config)
    (folder / "config.json").write_text(json.dumps(config))
    if calibrated:
        calibration = create_calibration("affine")
        calibration.slope, calibration.offset = 0.5, 1.0
        record = CalibrationRecord(
            calibration, fitted_to={"manifest": "dev.csv"}, weights=weights_key(config)
        )
        record.write(folder / "calibration.json")
    if domain is not None:
        (folder / "domain.json").write_text(domain.to_text())
    return folder


def _write_graph(path: Path, text: str, runtime: str) -> str:
    import onnx
    import onnx.parser

    model = onnx.parser.parse_model(_HEADER + text)
    onnx.checker.check_model(model, full_check=True)
    made = path.with_suffix(".onnx")
    onnx.save(model, made)
    if runtime == "onnx":
        return made.name
    import openvino

    openvino.save_model(openvino.convert_model(made), path.with_suffix(".xml"), compress_to_fp16=False)
    made.unlink()
    return path.with_suffix(".xml").name
