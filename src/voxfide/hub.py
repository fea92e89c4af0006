"""Files of a model on the hub: one question, then only downloads of what is there and needed.

Asked once, the hub tells commit and files; each file is then fetched by commit, which
needs no further question where it is cached. Without a network, or with
``HF_HUB_OFFLINE=1``, the cache answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxfide.errors import CheckpointError, MissingDependencyError

TIMEOUT = 20.0
"""Seconds that the hub may take to say what a repository holds."""


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit: the folder that holds them, and the commit."""

    folder: Path
    commit: str


def is_hub_id(name: str) -> bool:
    """Whether ``name`` has the form ``ORGANISATION/NAME``."""
    return re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name) is not None


def download(
    hub_id: str,
    required: Sequence[str],
    first_of: Sequence[str] = (),
    optional: Sequence[str] = (),
    *,
    revision: str | None = None,
    advice: str = "give the path of a local folder",
    **options: Any,
) -> Snapshot:
    """Downloads files of a model, or finds them in the cache.

    Args:
        hub_id: ``ORGANISATION/NAME``.
        required: files that must be there.
        first_of: alternatives; the first that is there is taken.
        optional: files that are taken if they are there.
        revision: branch, tag or commit.
        advice: what to do without a network, for the error.
        options: ``token``, ``cache_dir``, ``force_download``, ``local_files_only`` of
            :func:`huggingface_hub.hf_hub_download`.

    Raises:
        CheckpointError: no such model or revision, a file that is not there, or no network
            and not cached.
        MissingDependencyError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{hub_id}: the hub is reached by huggingface_hub (pip install huggingface_hub; or {advice})"
        ) from error
    try:
        commit, present = _ask(hub_id, revision, options)
        if commit is None:
            return _cached(hub_id, revision, required, first_of, options, advice)
        missing = [f for f in required if f not in present]
        if missing:
            raise CheckpointError(f"{hub_id}: the repository has no {', '.join(missing)}")
        chosen = next((f for f in first_of if f in present), None)
        if first_of and chosen is None:
            raise CheckpointError(f"{hub_id}: the repository holds none of {', '.join(first_of)}")
        names = [*required, *([chosen] if chosen else []), *(f for f in optional if f in present)]
        paths = [Path(hf_hub_download(hub_id, f, revision=commit, **options)) for f in names]
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{hub_id}: cannot be downloaded: {reason} ({advice})") from error
    return Snapshot(paths[0].parent, commit)


def _ask(hub_id: str, revision: str | None, options: dict[str, Any]) -> tuple[str | None, set[str]]:
    """Commit and file names; None where the hub cannot be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    if options.get("local_files_only"):
        return None, set()
    try:
        api = HfApi(token=options.get("token"))
        info = api.model_info(hub_id, revision=revision or "main", timeout=TIMEOUT)
    except (OfflineModeIsEnabled, _transport_error(), ConnectionError, TimeoutError):
        return None, set()
    return info.sha, {s.rfilename for s in info.siblings or []}


def _transport_error() -> type[Exception]:
    """What the hub library's HTTP client raises where there is no connection."""
    from importlib import import_module
    from importlib.util import find_spec

    client = import_module("httpx2" if find_spec("httpx2") else "httpx")
    error: type[Exception] = client.TransportError
    return error


def _cached(
    hub_id: str,
    revision: str | None,
    required: Sequence[str],
    first_of: Sequence[str],
    options: dict[str, Any],
    advice: str,
) -> Snapshot:
    from huggingface_hub import try_to_load_from_cache

    def find(file: str) -> Path | None:
        found = try_to_load_from_cache(
            hub_id, file, cache_dir=options.get("cache_dir"), revision=revision or "main"
        )
        return Path(found) if isinstance(found, str) else None

    paths = [find(f) for f in required]
    chosen = [p for f in first_of if (p := find(f))]
    if not all(paths) or (first_of and not chosen):
        raise CheckpointError(
            f"{hub_id}: the hub cannot be reached and the model is not in its local cache ({advice})"
        )
    folder = next(p for p in [*paths, *chosen] if p).parent
    return Snapshot(folder, folder.name)
