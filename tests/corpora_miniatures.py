"""Every corpus as its owners lay it out on disk, in miniature: a few utterances with real audio files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

RATE = 16_000
LABELS = ("bonafide", "spoof", "unknown")


@dataclass
class Miniature:
    """A corpus in miniature.

    Attributes:
        counts: split (empty where there are none) to utterances of each of :data:`LABELS`.
        columns: that the manifest must have, beside the required ones.
        protocols: files with one line an utterance; malformed lines in them must be told.
        bad_label: a line of the first protocol whose label means nothing, where it has labels.
        audio: all audio files.
    """

    name: str
    root: Path
    seconds: float = 0.05
    counts: dict[str, list[int]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    protocols: list[Path] = field(default_factory=list)
    bad_label: str = ""
    audio: list[Path] = field(default_factory=list)

    def write_audio(self, path: str, label: str, split: str = "") -> str:
        """Noise, of another colour for each class; counted under ``split``. Returns the file's stem."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=4).digest())
        noise = np.random.default_rng(seed).standard_normal(max(64, int(self.seconds * RATE)))
        if label == "spoof":
            noise = np.convolve(noise, np.ones(4) / 4, "same")
        sf.write(target, 0.1 * noise, RATE, subtype="PCM_16")
        self.audio.append(target)
        self.counts.setdefault(split, [0, 0, 0])[LABELS.index(label)] += 1
        return target.stem

    def write_protocol(self, path: str, lines: Iterable[str]) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.protocols.append(target)


Maker = Callable[[Miniature], None]
MAKERS: dict[str, Maker] = {}
SIZE = {"train": 4, "dev": 3, "eval": 5, "progress": 2, "R1": 3, "R2": 2, "adaptation": 2, "hidden_track": 2}


def make(name: str, root: Path, seconds: float = 0.05) -> Miniature:
    """Writes the miniature of a registered corpus below ``root``, which is what ``prepare`` is given."""
    root.mkdir(parents=True, exist_ok=True)
    miniature = Miniature(name, root, seconds)
    MAKERS[name](miniature)
    return miniature


def _maker(name: str) -> Callable[[Maker], Maker]:
    def register(function: Maker) -> Maker:
        MAKERS[name] = function
        return function

    return register


def _classes(split: str) -> list[tuple[int, str]]:
    """Numbered labels: bona fide first, then the spoofs."""
    n = SIZE[split]
    return [(i, "bonafide" if i < (n + 1) // 3 else "spoof") for i in range(n)]


@_maker("asvspoof5")
def _asvspoof5(m: Miniature) -> None:
    m.columns = ("split", "speaker", "gender", "codec", "codec_quality", "codec_seed", "attack_tag", "attack")
    m.bad_label = "T_1 T_9 F - - - - A01 bogus -"
    protocols = {"train": "train", "dev": "dev.track_1", "eval": "eval.track_1"}
    for split, letter, folder in (
        ("train", "T", "flac_T"),
        ("dev", "D", "flac_D"),
        ("eval", "E", "flac_E_eval"),
    ):
        lines = []
        for i, label in _classes(split):
            stem = m.write_audio(f"{folder}/{letter}_{i:010d}.flac", label, split)
            codec = "C05 2 E_0000000009" if split == "eval" and i == 3 else "- - -"
            attack = "AC1 A14 spoof" if label == "spoof" else "- bonafide bonafide"
            lines.append(f"{letter}_44{i:02d} {stem} F {codec} {attack} -")
        m.write_protocol(f"ASVspoof5.{protocols[split]}.tsv", lines)
    stems = [m.write_audio(f"flac_E_prog/E_99{i:08d}.flac", "unknown", "progress") for i in range(2)]
    m.write_protocol("ASVspoof5.track_1.progress.trial.txt", stems)


def _la_lines(m: Miniature, split: str, folder: str, names: tuple[str, str], suffix: str) -> list[str]:
    lines = []
    for i, label in _classes(split):
        stem = m.write_audio(f"{folder}/{names[label == 'spoof']}_{i:07d}{suffix}", label, split)
        lines.append(f"LA_00{i:02d} {stem} - {'A07' if label == 'spoof' else '-'} {label}")
    return lines


@_maker("asvspoof2019la")
def _asvspoof2019la(m: Miniature) -> None:
    m.columns = ("split", "speaker", "attack")
    m.bad_label = "LA_0001 LA_T_9 - A07 bogus"
    for split, kind in (("train", "trn"), ("dev", "trl"), ("eval", "trl")):
        prefix = f"LA_{split[0].upper()}"
        lines = _la_lines(m, split, f"LA/ASVspoof2019_LA_{split}/flac", (prefix, prefix), ".flac")
        m.write_protocol(f"LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{split}.{kind}.txt", lines)


def _asvspoof2021(m: Miniature, track: str, line: str) -> None:
    lines = []
    for split in ("eval", "progress", "hidden_track"):
        for i, label in _classes(split):
            number = f"{'eph'.index(split[0])}{i:06d}"
            stem = m.write_audio(f"ASVspoof2021_{track}_eval/flac/{track}_E_{number}.flac", label, split)
            attack = "A07" if label == "spoof" else "bonafide"
            trim = "trim" if split == "hidden_track" else "notrim"
            lines.append(line.format(stem=stem, attack=attack, label=label, trim=trim, split=split))
    m.write_protocol(f"keys/{track}/CM/trial_metadata.txt", lines)
    # Trials of speaker verification, under the same name.
    asv = m.root / f"keys/{track}/ASV/trial_metadata.txt"
    asv.parent.mkdir(parents=True)
    asv.write_text(f"LA_0007-alaw-ita_tx {track}_E_5000001 alaw ita_tx bonafide nontarget notrim eval\n")


@_maker("asvspoof2021la")
def _asvspoof2021la(m: Miniature) -> None:
    m.columns = ("split", "speaker", "codec", "transmission", "attack", "trim", "subset")
    m.bad_label = "LA_0009 LA_E_9 alaw ita_tx A07 bogus notrim eval"
    _asvspoof2021(m, "LA", "LA_0009 {stem} alaw ita_tx {attack} {label} {trim} {split}")


@_maker("asvspoof2021df")
def _asvspoof2021df(m: Miniature) -> None:
    m.columns = ("split", "codec", "source", "attack", "vocoder", "task", "team", "gender_pair", "language")
    m.bad_label = "LA_0023 DF_E_9 nocodec asvspoof A07 bogus notrim eval trad_voc - - - -"
    _asvspoof2021(
        m,
        "DF",
        "LA_0023 {stem} low_m4a asvspoof {attack} {label} {trim} {split} neural_vocoder Task1 t01 FF E",
    )


@_maker("inthewild")
def _inthewild(m: Miniature) -> None:
    m.columns = ("speaker",)
    m.bad_label = "9.wav,Alec Guinness,bogus"
    lines = ["file,speaker,label"]
    for i, label in _classes("eval"):
        stem = m.write_audio(f"release_in_the_wild/{i}.wav", label)
        lines.append(f"{stem}.wav,Alec Guinness,{'bona-fide' if label == 'bonafide' else 'spoof'}")
    m.write_protocol("release_in_the_wild/meta.csv", lines)


def _labelled(m: Miniature, base: str, splits: dict[str, str], suffix: str = ".wav") -> None:
    for split, folder in splits.items():
        for i, label in _classes(split):
            name = "real" if label == "bonafide" else "fake"
            m.write_audio(f"{base}{folder}/{name}/file{i}{suffix}", label, split)


_FOR = {"train": "training", "dev": "validation", "eval": "testing"}


@_maker("for-norm")
def _for_norm(m: Miniature) -> None:
    m.columns = ("split",)
    _labelled(m, "for-norm/", _FOR, ".wav_16k.wav_norm.wav")


@_maker("for-original")
def _for_original(m: Miniature) -> None:
    m.columns = ("split",)
    _labelled(m, "for-original/", _FOR)


@_maker("for-2sec")
def _for_2sec(m: Miniature) -> None:
    m.columns = ("split",)
    _labelled(m, "for-2sec/for-2seconds/", _FOR)


@_maker("for-rerec")
def _for_rerec(m: Miniature) -> None:
    m.columns = ("split",)
    _labelled(m, "for-rerec/for-rerecorded/", _FOR)


@_maker("add2022")
def _add2022(m: Miniature) -> None:
    m.columns = ("split",)
    m.bad_label = "ADD_T_9.wav bogus"
    places = {
        "train": ("ADD_train_dev/label/train_label.txt", "ADD_train_dev/train/ADD_T"),
        "dev": ("ADD_train_dev/label/dev_label.txt", "ADD_train_dev/dev/ADD_D"),
        "adaptation": ("track1adp_out/label.txt", "track1adp_out/ADD_A"),
        "eval": ("track1test_out/label.txt", "track1test_out/ADD_E"),
    }
    for split, (labels, audio) in places.items():
        _add_lines(m, split, labels, audio)


@_maker("add2023-1.2")
def _add2023(m: Miniature) -> None:
    m.columns = ("split",)
    m.bad_label = "ADD2023_T1.2_T_9.wav bogus"
    for split, folder in {"train": "train", "dev": "dev", "R1": "testR1", "R2": "testR2"}.items():
        prefix = {"train": "T1.2_T", "dev": "T1.2_D"}.get(split, f"T1.2{split}_E")
        base = f"Track1.2/{folder}"
        _add_lines(m, split, f"{base}/label.txt", f"{base}/wav/ADD2023_{prefix}")


def _add_lines(m: Miniature, split: str, labels: str, audio: str) -> None:
    lines = []
    for i, label in _classes(split):
        stem = m.write_audio(f"{audio}_{i:08d}.wav", label, split)
        lines.append(f"{stem}.wav {'genuine' if label == 'bonafide' else 'fake'}")
    m.write_protocol(labels, lines)


def _half_truth(m: Miniature, splits: dict[str, tuple[str, str]]) -> None:
    m.columns = ("split", "segments")
    for split, (labels, audio) in splits.items():
        lines = []
        for i, label in _classes(split):
            stem = m.write_audio(f"{audio}_{i:08d}.wav", label, split)
            regions = "0.00-4.72-T 1" if label == "bonafide" else "0.00-1.25-T/1.25-1.80-F/1.80-4.53-T 0"
            lines.append(f"{stem} {regions}")
        m.write_protocol(labels, lines)


@_maker("had")
def _had(m: Miniature) -> None:
    m.bad_label = "HAD_train_fake_9 0.00-1.00-F 2"
    _half_truth(
        m,
        {
            "train": ("HAD_train/HAD_train_label.txt", "HAD_train/conbine/HAD_train_fake"),
            "dev": ("HAD_dev/HAD_dev_label.txt", "HAD_dev/conbine/HAD_dev_fake"),
            "eval": ("HAD_test/HAD_test_label.txt", "HAD_test/test/HAD_test"),
        },
    )


@_maker("add2023-2")
def _add2023_2(m: Miniature) -> None:
    m.bad_label = "ADD2023_T2_T_9 0.00-1.00-F 2"
    names = {"train": ("train", "T"), "dev": ("dev", "D"), "eval": ("test", "E")}
    places = {s: (f"ADD2023_Track2_{d}", f"ADD2023_T2_{letter}") for s, (d, letter) in names.items()}
    _half_truth(m, {s: (f"{d}/label.txt", f"{d}/wav/{prefix}") for s, (d, prefix) in places.items()})


@_maker("habla")
def _habla(m: Miniature) -> None:
    m.columns = ("split", "attack", "system", "accent", "speaker")
    base, lines = "FinalDataset_16khz", ["split,file,class"]
    files = {
        "Real/Argentina/arf_00295": "bonafide", "Real/Chile/clf_00610": "bonafide",
        "CycleGAN/Argentina-Chile/arf_00295-clf_00610": "spoof",
        "Diff/Chile-Argentina/clf_00610-arf_00295": "spoof",
        "StarGAN/Argentina-Chile/arf_00295-clf_00610": "spoof", "TTS/Argentina": "spoof",
        "TTS-VC/TTS-StarGAN/Argentina-Chile": "spoof",
    }  # fmt: skip
    for n, (folder, label) in enumerate(files.items()):
        for i, split in enumerate(("train", "dev", "eval")):
            stem = m.write_audio(f"{base}/{folder}/f{n}_{i}.wav", label, split)
            lines.append(f"{split},{stem}.wav,{label}")
    target = m.root / base / "protocol.txt"
    target.write_text("\n".join(lines) + "\n")


@_maker("partialspoof")
def _partialspoof(m: Miniature) -> None:
    m.columns = ("split", "speaker", "attack", "segments")
    m.bad_label = "LA_0079 CON_T_9 - CON bogus"
    base = "database"
    for split in ("train", "dev", "eval"):
        letter = split[0].upper()
        lines = _la_lines(m, split, f"{base}/{split}/con_wav", (f"LA_{letter}", f"CON_{letter}"), ".wav")
        m.write_protocol(
            f"{base}/protocols/PartialSpoof_LA_cm_protocols/PartialSpoof.LA.cm.{split}.trl.txt", lines
        )
        for resolution in ("0.01", "0.02", "0.04", "0.08", "0.16", "0.32", "0.64"):
            labels = {line.split()[1]: frame_labels(line.split()[1], float(resolution)) for line in lines}
            path = m.root / base / "segment_labels" / f"{split}_seglab_{resolution}.npy"
            path.parent.mkdir(exist_ok=True)
            np.save(path, labels, allow_pickle=True)  # type: ignore[arg-type]


def frame_labels(utterance_id: str, resolution: float) -> np.ndarray:
    """1.28 s of which 0.32 … 0.48 s are spoofed; a frame with any spoofed part is '0'."""
    starts = np.arange(round(1.28 / resolution)) * resolution
    spoofed = (starts < 0.48 - 1e-9) & (starts + resolution > 0.32 + 1e-9)
    is_spoof = spoofed if utterance_id.startswith("CON") else np.zeros(len(starts), bool)
    return np.where(is_spoof, "0", "1")


@_maker("scenefake")
def _scenefake(m: Miniature) -> None:
    m.columns = ("split",)
    _labelled(m, "", {"train": "train", "dev": "dev", "eval": "eval"})


@_maker("ctrsvdd")
def _ctrsvdd(m: Miniature) -> None:
    m.columns = ("split", "source", "speaker", "attack")
    m.bad_label = "m4singer CtrSVDD_0110 CtrSVDD_0110_T_9 - A06 bogus"
    for split in ("train", "dev", "eval"):
        lines = []
        for i, label in _classes(split):
            stem = m.write_audio(f"{split}_set/CtrSVDD_0110_{split[0].upper()}_{i:07d}.flac", label, split)
            end = "- bonafide" if label == "bonafide" else "A06 deepfake"
            lines.append(f"m4singer CtrSVDD_0110 {stem} - {end}")
        m.write_protocol(f"{split}.txt", lines)


@_maker("mlaad")
def _mlaad(m: Miniature) -> None:
    m.columns = (
        "system",
        "language",
        "speaker",
        "architecture",
        "training_data",
        "original_file",
        "duration",
    )
    header = "path|original_file|language|is_original_language|duration|training_data|model_name|architecture"
    for language, system in (("en", "tts_models_vits"), ("de", "bark"), ("de", "xtts_v2")):
        lines = [f"{header}|transcript"]
        for i in range(2):
            book = "de_DE/by_book/female/eva/kammmacher"
            folder = f"fake/{language}/{system}"
            stem = m.write_audio(f"{folder}/kammmacher_{i}.wav", "spoof")
            lines.append(
                f'./{folder}/{stem}.wav|{book}/wavs/k_{i}.wav|{language}|True|0.05|lj|{system}|vits|"Er "sagt'
            )
        m.write_protocol(f"fake/{language}/{system}/meta.csv", lines)
    for i in range(2):
        m.write_audio(f"m-ailabs/de_DE/by_book/female/eva/kammmacher/wavs/k_{i}.wav", "bonafide")


@_maker("folder")
def _folder(m: Miniature) -> None:
    m.columns = ("split",)
    _labelled(m, "", {"train": "train", "dev": "dev", "eval": "eval"})
