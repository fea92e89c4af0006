"""How many layers a front-end has, without loading its weights."""

from __future__ import annotations

from pathlib import Path

from voxfide.errors import CheckpointError
from voxfide.frontends import FRONTENDS
from voxfide.frontends.ssl_config import read_json
from voxfide.hub import download, is_hub_id


def depth_of(name: str) -> int:
    """Transformer layers of a registered front-end, a model folder or a hub id.

    Raises:
        UnknownNameError: nothing of that name.
        CheckpointError: no ``config.json``, or one that says nothing of layers.
    """
    if name in FRONTENDS:
        return FRONTENDS[name].n_layers
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not is_hub_id(name):
            return FRONTENDS[name].n_layers
        folder = download(name, ["config.json"]).folder
    config = read_json(folder / "config.json")
    if config.get("library") == "voxfide":
        return int(config["frontend"]["n_layers"])
    depth = config.get("num_hidden_layers")
    if not isinstance(depth, int) or depth < 1:
        raise CheckpointError(f"{folder / 'config.json'}: num_hidden_layers is {depth!r}")
    return depth
