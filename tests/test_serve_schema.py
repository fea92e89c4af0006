"""The OpenAPI description holds what it promises: schemathesis asks what nobody would think of."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from serving import recording, serving
from voxfide.serve.settings import Limits, ServiceSettings

N_CASES = int(os.environ.get("VOXFIDE_SCHEMA_CASES", "15"))
schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    limits = Limits(idle_seconds=5.0)
    with serving(ServiceSettings(port=0, history=folder / "h.sqlite", limits=limits)) as running:
        yield running
        assert running.service.workspace.leftovers() == []


@pytest.fixture(scope="module")
def api(service):
    return schemathesis.openapi.from_url(f"{service.url}/v1/openapi.json")


OPERATIONS = (
    "POST /v1/detect", "POST /v1/detect/batch", "GET /v1/detectors", "GET /v1/history", "DELETE /v1/history",
    "GET /healthz", "GET /readyz", "GET /metrics",
)  # fmt: skip


def test_all_operations_are_tried(api):
    assert {result.ok().label for result in api.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_as_described(api, label):
    [operation] = [o for o in (r.ok() for r in api.get_all_operations()) if o.label == label]
    # Random bytes fit the description of a recording, and are none: their refusal is right.
    unfit = [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]

    @given(case=operation.as_strategy())
    @settings(max_examples=N_CASES, suppress_health_check=list(HealthCheck), deadline=None)
    def ask(case):
        case.call_and_validate(excluded_checks=unfit, timeout=60)

    ask()


def resolved(node: Any, whole: dict[str, Any]) -> Any:
    """A schema with its references filled in."""
    if isinstance(node, dict):
        if "$ref" in node:
            return resolved(whole["components"]["schemas"][node["$ref"].rpartition("/")[2]], whole)
        return {key: resolved(value, whole) for key, value in node.items()}
    return [resolved(item, whole) for item in node] if isinstance(node, list) else node


def test_good_answers_and_examples_fit_their_schemas(service):
    import jsonschema_rs

    whole = service.request("GET", "/v1/openapi.json").json
    assert whole["openapi"].startswith("3.")

    def check(path: str, method: str, status: int, value: Any) -> None:
        content = whole["paths"][path][method]["responses"][str(status)]["content"]
        [described] = content.values()
        jsonschema_rs.validate(resolved(described["schema"], whole), value)

    content = recording(5.0)
    rich = service.upload(content, "/v1/detect?why=1&overview=1&report=html")
    check("/v1/detect", "post", 200, rich.json)
    check("/v1/detect", "post", 422, service.upload(b"junk" * 99).json)
    check(
        "/v1/detect/batch",
        "post",
        200,
        service.upload([("a", content), ("b", b"x")], "/v1/detect/batch").json,
    )
    check("/v1/detectors", "get", 200, service.request("GET", "/v1/detectors").json)
    check("/v1/history", "get", 200, service.request("GET", "/v1/history").json)
    detect = whole["paths"]["/v1/detect"]["post"]
    example = detect["responses"]["200"]["content"]["application/json"]["example"]
    check("/v1/detect", "post", 200, example)
    for answer in detect["responses"].values():
        for described in answer["content"].values():
            for shown in described.get("examples", {}).values():
                jsonschema_rs.validate(resolved(described["schema"], whole), shown["value"])
    assert json.dumps(whole)
