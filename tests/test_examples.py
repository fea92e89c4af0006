"""The examples for clusters: scripts and manifests are well formed, and every command in them exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from voxfide.cli import app

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.rglob("*.sbatch"))
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))


def words_of(text: str) -> list[list[str]]:
    """The commands of a shell script, as words; what the shell would put in for a variable is ``1``."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [re.sub(r"\$\{?\w+[^}\s\"]*\}?|\$\?", "1", line) for line in joined.splitlines()]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if "||" in words:
            words = words[: words.index("||")]
        found.append(words)
    return [words for words in found if words]


def commands_in(words: list[str]) -> Iterator[list[str]]:
    """The arguments of ``voxfide`` in a command that may start it by way of something else."""
    if "voxfide" in words[:1]:
        yield words[1:]
    elif words[:1] and words[0] in ("srun", "torchrun", "accelerate", "ray", "sbatch"):
        for i, word in enumerate(words[1:], 1):
            if word == "voxfide" and words[i - 1] in ("-m", "--"):
                yield words[i + 1 :]


def commands_of_manifest(path: Path) -> Iterator[list[str]]:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        spec = document["spec"]
        if "entrypoint" in spec:
            for words in words_of(spec["entrypoint"]):
                yield from commands_in(words)
        for container in containers_of(spec):
            words = [*container.get("command", []), *container.get("args", [])]
            yield from commands_in(words)


def containers_of(spec: Any) -> Iterator[dict[str, Any]]:
    if isinstance(spec, dict):
        yield from spec.get("containers", [])
        for value in spec.values():
            yield from containers_of(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from containers_of(value)


def parse(arguments: list[str]) -> str:
    """Parses a command line to its end, without running it; the name of the command.

    Raises:
        Exception: of the parsing library, for whatever it would refuse.
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context("voxfide", list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return str(context.command_path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_well_formed(path):
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)
    text = path.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    # SLURM reads its options from before the first command only.
    last_option = text.rindex("#SBATCH")
    assert not any(line and line[0] not in "#" for line in text[:last_option].splitlines())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_every_command_of_the_scripts_can_be_given(path):
    found = [c for words in words_of(path.read_text(encoding="utf-8")) for c in commands_in(words)]
    assert len(found) == 1
    assert parse(found[0]) == f"voxfide {found[0][0]}"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_every_command_of_the_manifests_can_be_given(path):
    found = list(commands_of_manifest(path))
    assert len(found) == 1
    assert parse(found[0]) == f"voxfide {found[0][0]}"


def test_what_no_command_takes_is_noticed():
    for wrong in (["score", "d", "m.csv", "-o", "s", "--no-such-option"], ["scroe", "d"], ["finetune", "m"]):
        with pytest.raises(Exception, match="(?i)no such|missing"):
            parse(wrong)
    assert parse(["study", "layerwise", "-o", "x"]) == "voxfide study layerwise"


def test_the_training_job_is_one_that_finds_itself():
    """Names that must agree, in the service, the job and torchrun's arguments."""
    service, job = yaml.safe_load_all((EXAMPLES / "kubernetes" / "training-job.yaml").read_text())
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    arguments = dict(a.split("=", 1) for a in pod["containers"][0]["args"] if "=" in a)
    assert arguments["--master_addr"] == f"{name}-0.{pod['subdomain']}"
    assert int(arguments["--nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    limits = pod["containers"][0]["resources"]["limits"]
    assert arguments["--nproc_per_node"] == limits["nvidia.com/gpu"]
    mounts = {m["name"] for m in pod["containers"][0]["volumeMounts"]}
    assert mounts == {v["name"] for v in pod["volumes"]}


def test_the_ray_version_of_the_manifest_is_the_pinned_one():
    (job,) = yaml.safe_load_all((EXAMPLES / "kubernetes" / "rayjob.yaml").read_text())
    pins = (EXAMPLES.parent / "constraints.txt").read_text().splitlines()
    (pinned,) = (line.split("==")[1] for line in pins if line.startswith("ray=="))
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned


def test_links_of_the_examples_lead_somewhere():
    for page in EXAMPLES.rglob("README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_manifests_are_plain_yaml():
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            assert {"apiVersion", "kind", "metadata", "spec"} <= set(json.loads(json.dumps(document)))
