"""Audio shards at rest: many small files in a few large ones, and a manifest that names them there.

A file system keeps a block, an entry and a seek for every file; a corpus of millions of clips wears it
out. :func:`pack` writes them into tar archives in WebDataset's convention, or Parquet files as Hugging
Face ``datasets`` keeps audio, and a manifest whose paths go through these as through folders: every
command reads it (:mod:`voxfide.audio.members`), sample for sample as it reads the files.
"""

from voxfide.packing.job import CODECS, FORMS, MEGABYTE, Packed, pack

__all__ = ["CODECS", "FORMS", "MEGABYTE", "Packed", "pack"]
