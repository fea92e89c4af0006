"""The HTTP interface, version 1. Options are in the address; the body of an upload holds files alone."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from voxfide import __version__
from voxfide.errors import AudioError
from voxfide.serve import meters, schema
from voxfide.serve.analyst import BOUNDS, Options, ReportKind, RuleOptions
from voxfide.serve.gate import OWNER
from voxfide.serve.problems import ProblemError
from voxfide.serve.service import Service
from voxfide.serve.uploads import Upload, UploadReader
from voxfide.serve.work import PROGRESS_TYPE, ClientGoneError, ProgressResponse, attended, described

_UPLOAD: Final = (
    "bad-request", "key-needed", "foreign-origin", "upload-too-slow", "too-large", "not-multipart",
    "wrong-host", "audio", "invalid-option", "busy", "internal", "stopping", "time-limit",
)  # fmt: skip
_PLAIN: Final = ("key-needed", "wrong-host", "invalid-option")
_GONE_STATUS: Final = 499


def _within(name: str, text: str) -> Any:
    low, high = BOUNDS[name]
    return Query(ge=low, le=high, allow_inf_nan=False, description=text)


Prior = Annotated[float | None, _within("prior", "Of bona fide, before the recording was heard.")]
Miss = Annotated[float | None, _within("cost_miss", "Of rejecting bona fide speech.")]
Accept = Annotated[float | None, _within("cost_fa", "Of accepting a spoof.")]
Abstain = Annotated[float | None, _within("cost_inconclusive", "Of giving no verdict.")]
Threshold = Annotated[float | None, _within("threshold", "A two-way decision at this score.")]


def rule_options(
    prior: Prior = None,
    cost_miss: Miss = None,
    cost_fa: Accept = None,
    cost_inconclusive: Abstain = None,
    threshold: Threshold = None,
) -> RuleOptions:
    """The options of `voxfide detect` that decide on the verdict."""
    return RuleOptions(prior, cost_miss, cost_fa, cost_inconclusive, threshold)


def options(
    rule: Annotated[RuleOptions, Depends(rule_options)],
    segments: Annotated[bool, Query(description="Windows, speech and marked stretches.")] = True,
    why: Annotated[bool, Query(description="Contributions of bands, layers and members.")] = False,
    overview: Annotated[bool, Query(description="Envelope and spectrogram, for a picture.")] = False,
    report: Annotated[ReportKind | None, Query(description="A document to hand on, in base64.")] = None,
) -> Options:
    """All options of one upload."""
    return Options(rule, segments, why, overview, report)


def router(service: Service) -> APIRouter:
    """The routes of a service."""
    routes = APIRouter()
    _add_detect(routes, service)
    _add_batch(routes, service)
    _add_facts(routes, service)
    if service.history is not None:
        _add_history(routes, service)
    _add_health(routes, service)
    return routes


def _owner(request: Request) -> str:
    return str(request.scope["state"][OWNER])


async def _uploads(request: Request, service: Service, held: AsyncExitStack, most: int) -> list[Upload]:
    """The request's files; closed with ``held``."""
    held.enter_context(service.admission.enter())
    reader = UploadReader(service.workspace, service.limits, most)
    held.callback(reader.close)
    headers = request.headers
    return await reader.read(request.stream(), headers.get("content-type", ""), headers.get("content-length"))


def _add_detect(routes: APIRouter, service: Service) -> None:
    @routes.post(
        "/v1/detect",
        summary="Analyse one recording",
        openapi_extra=schema.multipart(1),
        responses=schema.answers("Analysis", "What is said of it.", *_UPLOAD),
    )
    async def detect(request: Request, chosen: Annotated[Options, Depends(options)]) -> Response:
        """Any audio or video file in a part named `file`. The answer is that of `voxfide detect --json`.

        With `Accept: application/x-ndjson` it comes as one object a line: `{"progress": {"seconds": …}}`
        while the work goes on, `{"result": …}` or `{"problem": …}` at its end.
        """
        chosen.rule.rule(service.detector)  # an option that cannot be is told before the upload is read
        owner = _owner(request)
        async with AsyncExitStack() as held:
            [upload] = await _uploads(request, service, held, 1)
            if PROGRESS_TYPE in request.headers.get("accept", ""):
                return ProgressResponse(
                    lambda tell: service.in_time(service.analyse(upload, chosen, owner, tell)),
                    held.pop_all(),
                )
            return await _answer(request, service.in_time(service.analyse(upload, chosen, owner)))


def _add_batch(routes: APIRouter, service: Service) -> None:
    @routes.post(
        "/v1/detect/batch",
        summary="Analyse several recordings",
        openapi_extra=schema.multipart(service.limits.batch_files),
        responses=schema.answers("Batch", "What is said of each.", *_UPLOAD),
    )
    async def detect_batch(request: Request, chosen: Annotated[Options, Depends(options)]) -> Response:
        """Files in parts named `file`. One that cannot be used has `error` in its place; the others go on."""
        chosen.rule.rule(service.detector)
        owner = _owner(request)

        async def one(upload: Upload) -> dict[str, Any]:
            try:
                return await service.analyse(upload, chosen, owner)
            except AudioError as error:
                return {"path": upload.name, "error": str(error), "problem": described(error).to_json()}

        async def all_of(uploads: list[Upload]) -> dict[str, Any]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(upload)) for upload in uploads]
            results = [task.result() for task in tasks]
            return {"results": results, "n_failed": sum("error" in result for result in results)}

        async with AsyncExitStack() as held:
            uploads = await _uploads(request, service, held, service.limits.batch_files)
            return await _answer(request, service.in_time(all_of(uploads)))


async def _answer(request: Request, work: Any) -> Response:
    try:
        return JSONResponse(await attended(work, request.receive))
    except ClientGoneError:
        return Response(status_code=_GONE_STATUS)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


def _add_facts(routes: APIRouter, service: Service) -> None:
    @routes.get(
        "/v1/detectors",
        summary="The detector in use, and limits on uploads",
        responses=schema.answers("Detectors", "What is in memory.", *_PLAIN),
    )
    async def detectors() -> Response:
        detector = service.detector
        record = detector.calibration
        entry = {
            **service.analyst.facts.to_json(),
            "calibrated": record is not None,
            "prior": None if record is None else record.prior,
            "training": dict(detector.training),
        }
        return JSONResponse(
            {"detectors": [entry], "limits": service.limits.to_json(), "version": __version__}
        )


def _add_history(routes: APIRouter, service: Service) -> None:
    history = service.history
    assert history is not None

    @routes.get(
        "/v1/history",
        summary="Past verdicts",
        responses=schema.answers("History", "The latest first.", *_PLAIN),
    )
    async def past(
        request: Request, limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100
    ) -> Response:
        return JSONResponse({"entries": await service.in_history(history.entries, _owner(request), limit)})

    @routes.delete(
        "/v1/history",
        summary="Forget all past verdicts",
        status_code=204,
        responses={
            k: v for k, v in schema.answers("History", "", *_PLAIN, "foreign-origin").items() if k != 200
        },
    )
    async def forget(request: Request) -> Response:
        await service.in_history(history.clear, _owner(request))
        return Response(status_code=204)


def _add_health(routes: APIRouter, service: Service) -> None:
    @routes.get("/healthz", summary="Whether the process answers", response_class=PlainTextResponse)
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @routes.get(
        "/readyz",
        summary="Whether it takes requests",
        response_class=PlainTextResponse,
        responses=schema.problems("stopping"),
    )
    async def readyz() -> Response:
        if not service.ready or service.admission.stopping:
            raise ProblemError("stopping", "The service is not ready, or stopping.")
        return PlainTextResponse("ready\n")

    @routes.get("/metrics", summary="Counts for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return PlainTextResponse(service.meters.render(), media_type=meters.MEDIA_TYPE)
