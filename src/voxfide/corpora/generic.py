"""Data sheets of what is no published corpus."""

from __future__ import annotations

from typing import Final

from voxfide.corpora.datasheet import DataSheet

SHEETS: Final = (
    DataSheet(
        name="folder",
        title="any folder tree whose folder names tell label and, if there are any, split",
        layout="[SPLIT/]LABEL/[SYSTEM/]…/FILE, in any order of levels; labels: bonafide, real, genuine, "
        "human, … or spoof, fake, …; splits: train, dev, eval and their synonyms",
        splits=("train", "dev", "eval"),
        columns=("system",),
    ),
    DataSheet(
        name="csv",
        title="any CSV or TSV with a column of files and one of labels",
        layout="a header line; column names are recognised by common synonyms or given with --map",
        columns=("any other column of the table",),
    ),
    DataSheet(
        name="shards",
        title="tar shards in WebDataset's convention, or Parquet files that hold audio as Hugging Face "
        "datasets does",
        layout="*.tar with KEY.wav (or another suffix of audio) and KEY.json, KEY.cls or KEY.txt beside; "
        "*.parquet with a column {bytes, path}; names of fields are recognised by common synonyms or given "
        "with --map; ROOT is a folder or one shard",
        splits=("train", "dev", "eval"),
        columns=("any other field of the JSON members, or column",),
        options={
            "bonafide": "values of the label field that mean bona fide, such as 0 or real,human",
            "spoof": "values of the label field that mean spoof",
        },
        traps=("Numbers as labels are refused unless the options say what they mean.",),
    ),
    DataSheet(
        name="selftest",
        title="the corpus that voxfide synthesises by itself to prove its plumbing; not real speech",
        layout="nothing: it is generated below ROOT",
        licence="Apache-2.0",
        splits=("train", "dev", "eval"),
        columns=("attack", "system", "speaker"),
    ),
)
