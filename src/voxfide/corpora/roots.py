"""Where the corpora lie on this machine, so that recipes need not say it.

Three places, the first that names the corpus counts:

1. what the caller was given (``--root CORPUS=FOLDER``);
2. the environment: ``VOXFIDE_ASVSPOOF5_ROOT``, ``VOXFIDE_FOR_NORM_ROOT``; the corpus's name in
   capitals, anything but letters and digits as ``_``;
3. ``$XDG_CONFIG_HOME/voxfide/roots.yaml`` (by default ``~/.config/voxfide/roots.yaml``): a line
   ``asvspoof5: /data/ASVspoof5`` for each corpus, by its name or an alias.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from voxfide.corpora import corpus
from voxfide.errors import UnknownNameError, UsageError
from voxfide.files import read_yaml
from voxfide.types import PathLike


def find_root(name: str, given: PathLike | None = None) -> Path | None:
    """The folder in which a corpus lies, or None where nobody has said so.

    Args:
        name: of the corpus, or an alias.
        given: said by the caller; goes before everything else.

    Raises:
        UnknownNameError: no such corpus.
        UsageError: the place that counts names something that is not there, or the file of
            roots is not what it should be.
    """
    known = corpus(name).name
    if given is not None:
        return _existing(Path(given), known, "the root that was given")
    variable = root_variable(known)
    if value := os.environ.get(variable):
        return _existing(Path(value), known, variable)
    file = roots_file()
    root = read_roots(file).get(known)
    return None if root is None else _existing(root, known, str(file))


def root_variable(name: str) -> str:
    """The environment variable that names a corpus's root: ``VOXFIDE_FOR_NORM_ROOT`` for ``for-norm``."""
    return f"VOXFIDE_{re.sub('[^A-Z0-9]', '_', corpus(name).name.upper())}_ROOT"


def roots_file() -> Path:
    """The user's file of roots; need not exist."""
    # The XDG specification has relative paths ignored.
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".config") / "voxfide" / "roots.yaml"


def how_to_name(name: str) -> str:
    """What a user can do about a corpus that :func:`find_root` does not know, for messages."""
    return f"--root {corpus(name).name}=FOLDER, ${root_variable(name)}, or a line in {roots_file()}"


def read_roots(file: Path) -> dict[str, Path]:
    """Corpus name to folder, of a file of roots; relative folders start from the file's own.

    Raises:
        UsageError: it is not a YAML mapping of known corpora to folders; says everything that is wrong.
    """
    if not file.exists():
        return {}
    content = read_yaml(file)
    if not isinstance(content or {}, dict):
        raise UsageError(f"{file}: expected lines 'CORPUS: FOLDER', found a {type(content).__name__}")
    roots: dict[str, Path] = {}
    problems = []
    for key, value in (content or {}).items():
        try:
            name = corpus(str(key)).name
        except UnknownNameError as error:
            problems.append(str(error))
            continue
        if not isinstance(value, str) or not value:
            problems.append(f"{key}: {value!r} (expected a folder)")
        elif name in roots:
            problems.append(f"{key}: {name} is named twice")
        else:
            roots[name] = file.parent / Path(value).expanduser()
    if problems:
        raise UsageError.listing(str(file), problems)
    return roots


def _existing(root: Path, name: str, said_by: str) -> Path:
    if not root.exists():
        raise UsageError(f"{root}: no such folder (corpus {name}, named by {said_by})")
    return root
