"""The local service over HTTP: the same answers as offline, options, names, limits, keys, history."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
import time
from dataclasses import replace

import pytest

from serving import RATE, form, recording, serving, small_detector, spoken
from voxfide.analysis.recording import analyse
from voxfide.client import Client, RemoteAnalysis, ServiceError
from voxfide.errors import UsageError
from voxfide.serve.keys import KeyRing, add_key
from voxfide.serve.settings import Limits, ServiceSettings


@pytest.fixture(scope="module")
def service():
    with serving(ServiceSettings(port=0)) as running:
        yield running
        assert running.service.workspace.leftovers() == []
        assert running.service.admission.pending == 0


@pytest.fixture
def client(service):
    return Client(service.url)


# --- answers


@pytest.mark.parametrize("kind", ["wav-s16", "flac-s16", "mp3", "m4a", "webm", "opus", "mkv-aac"])
def test_an_answer_is_the_offline_one(service, tmp_path, kind):
    path = tmp_path / "clip"
    path.write_bytes(recording(7.0, seed=1, kind=kind))
    answer = service.upload([("clip", path.read_bytes())]).json
    offline = analyse(path, small_detector()).to_json()
    assert answer["score"] == pytest.approx(offline["score"], abs=1e-5)
    for key in ("windows", "stretches"):
        assert [list(w.values()) for w in answer[key]] == [
            pytest.approx(list(w.values()), abs=1e-5) for w in offline[key]
        ]
    for key in ("verdict", "speech", "sha256", "n_bytes", "conditions", "rule", "duration", "reasons"):
        assert answer[key] == offline[key], key


def test_concurrent_clients_get_their_own_answers(service, tmp_path):
    files = [recording(1.5 + 0.7 * i, seed=i) for i in range(6)]
    expected = []
    for i, content in enumerate(files):
        (tmp_path / f"{i}.wav").write_bytes(content)
        expected.append(analyse(tmp_path / f"{i}.wav", small_detector()).score)
    found: dict[int, list[float]] = {i: [] for i in range(len(files))}

    def ask(i: int) -> None:
        for _ in range(3):
            answer = service.upload([(f"{i}.wav", files[i])]).json
            assert answer["path"] == f"{i}.wav"
            found[i].append(answer["score"])

    threads = [threading.Thread(target=ask, args=(i,)) for i in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, scores in found.items():
        assert scores == [pytest.approx(expected[i], abs=1e-5)] * 3


def test_prior_and_threshold_decide_as_offline(client):
    content = recording(4.0, seed=1)
    usual, sceptical = client.detect(content), client.detect(content, prior=0.01)
    assert usual.score == sceptical.score
    assert sceptical.probability < usual.probability
    assert sceptical.prior == 0.01


@pytest.mark.parametrize(
    "option", ["prior=0", "prior=1", "prior=x", "threshold=nan", "report=docx", "cost_fa=-1"]
)
def test_an_option_that_cannot_be_is_named(service, option):
    answer = service.upload(recording(), f"/v1/detect?{option}")
    assert answer.status == 422
    assert answer.json["type"] == "urn:voxfide:problem:invalid-option"
    assert option.split("=")[0] in answer.json["detail"]


def test_segments_overview_and_why_come_when_asked_for(service):
    plain = service.upload(recording(4.0), "/v1/detect?segments=false").json
    assert not {"windows", "speech", "stretches", "overview", "report"} & set(plain)
    assert plain["why"] is None
    rich = service.upload(recording(4.0), "/v1/detect?overview=1&why=1").json
    assert rich["why"]["bands"]
    picture = rich["overview"]
    cells = base64.b64decode(picture["spectrogram"])
    assert len(cells) == picture["columns"] * picture["bands"]
    assert max(cells) == 255
    assert picture["seconds"] == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(("kind", "start"), [("html", b"<!doctype html>"), ("pdf", b"%PDF-")])
def test_a_report_is_that_of_the_recording(client, kind, start):
    content = recording(3.0)
    found = client.detect(content, name="memo <1>.wav", report=kind).json
    report = base64.b64decode(found["report"]["content_base64"])
    assert report.lower().startswith(start.lower())
    assert found["report"]["file_name"] == f"memo <1>.voxfide.{kind}"
    if kind == "html":
        assert found["sha256"].encode() in report
        assert b"memo &lt;1&gt;.wav" in report


def test_progress_comes_line_by_line_and_the_result_last(service):
    answer = service.upload(recording(9.0), headers={"Accept": "application/x-ndjson"})
    *steps, last = [json.loads(line) for line in answer.body.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    seconds = [step["progress"]["seconds"] for step in steps]
    assert seconds == sorted(seconds)
    assert last["result"]["duration"] == 9.0
    failed = service.upload(b"junk" * 50, headers={"Accept": "application/x-ndjson"})
    assert json.loads(failed.body.splitlines()[-1])["problem"]["status"] == 422


def test_a_batch_goes_on_past_a_bad_file(client, service):
    results = client.detect_batch([recording(2.0), b"junk" * 50, recording(2.0, seed=2)])
    assert [type(r) for r in results] == [RemoteAnalysis, ServiceError, RemoteAnalysis]
    assert results[1].status == 422
    assert results[0].score == client.detect(recording(2.0)).score
    too_many = service.upload([("a", b"x")] * 33, "/v1/detect/batch")
    assert (too_many.status, too_many.json["type"]) == (413, "urn:voxfide:problem:too-large")


def test_silence_is_inconclusive_and_no_error(service):
    from audio_fixtures import write

    content = write("wav-s16", 0 * spoken(3.0)[:, None], RATE)
    answer = service.upload(content).json
    assert (answer["verdict"], answer["score"]) == ("inconclusive", None)
    assert answer["reasons"]


# --- names and forms


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/dev/null", "null"),
        ("a\tb\u202e.wav", "ab.wav"),
        ("..", ".."),
        ("", "upload"),
        ("été 音声.wav", "été 音声.wav"),
        ("x" * 2000, "x" * 200),
    ],
)
def test_file_names_are_shown_harmless_and_open_nothing(service, sent, shown):
    answer = service.upload([(sent, recording())])
    assert (answer.status, answer.json["path"]) == (200, shown)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"--x\r\n\r\nhello\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
        (b"garbage", "multipart/form-data; boundary=x", 400),
        (b"{}", "application/json", 415),
        (b"abc", "multipart/form-data", 415),
        (b"--x\r\nContent-Disposition: form-data; name=\"prior\"\r\n\r\n1\r\n--x--\r\n",
         "multipart/form-data; boundary=x", 400),
    ],
)  # fmt: skip
def test_what_is_no_upload_is_refused_with_a_reason(service, body, content_type, status):
    answer = service.request("POST", "/v1/detect", body, {"Content-Type": content_type})
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"]


def test_unknown_addresses_and_methods(service):
    assert service.request("GET", "/v2/detect").status == 404
    answer = service.request("GET", "/v1/detect")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert service.request("GET", "/page/../settings.py").status == 404
    assert service.request("GET", "/page/%2e%2e%2fsettings.py").status == 404


# --- limits


def test_too_large_too_long_and_too_many_channels():
    from audio_fixtures import write

    limits = Limits(upload_bytes=200_000, duration=5.0, channels=2)
    with serving(ServiceSettings(port=0, limits=limits)) as running:
        client = Client(running.url)
        with pytest.raises(ServiceError, match="larger than this service takes") as large:
            client.detect(recording(60.0))
        assert (large.value.status, large.value.name) == (413, "too-large")
        body, kind = form([("a.wav", recording(60.0))])
        unsized = running.request("POST", "/v1/detect", iter([body]), {"Content-Type": kind})
        assert unsized.status == 413  # without a Content-Length, found while it arrives
        with pytest.raises(ServiceError, match="longer than 5") as long:
            client.detect(recording(8.0, kind="mp3"))
        assert long.value.status == 413
        with pytest.raises(ServiceError, match="3 channels"):
            client.detect(write("wav-s16", spoken(1.0)[:, None].repeat(3, axis=1), RATE))
        assert client.detect(recording(4.0)).score is not None
        assert running.service.workspace.leftovers() == []


def test_beyond_the_queue_clients_are_told_when_to_come_again(monkeypatch):
    limits = Limits(pending=2)
    with serving(ServiceSettings(port=0, concurrency=1, limits=limits)) as running:
        hold = threading.Event()
        original = running.service.analyst.run
        monkeypatch.setattr(running.service.analyst, "run", lambda *a: (hold.wait(20), original(*a))[1])
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(running.upload(recording()))) for _ in "ab"]
        for thread in threads:
            thread.start()
        while running.service.admission.pending < 2:
            time.sleep(0.01)
        refused = running.upload(recording())
        assert (refused.status, refused.json["type"]) == (429, "urn:voxfide:problem:busy")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json["retry_after"] == int(refused.headers["retry-after"])
        threading.Timer(0.3, hold.set).start()
        assert Client(running.url, patience=30).detect(recording()).verdict  # waits as it is told
        for thread in threads:
            thread.join()
        assert [a.status for a in answers] == [200, 200]


def test_a_request_that_takes_too_long_is_given_up(monkeypatch):
    with serving(ServiceSettings(port=0, limits=Limits(request_seconds=0.3))) as running:
        analyst = running.service.analyst
        detector = analyst.detector

        def slowly(waveforms):
            time.sleep(0.2)
            return small_detector().score_waveforms(waveforms)

        monkeypatch.setattr(detector, "score_waveforms", slowly)
        answer = running.upload(recording(120.0))
        assert (answer.status, answer.json["type"]) == (504, "urn:voxfide:problem:time-limit")
        assert "0.3 s" in answer.json["detail"]
        assert running.service.admission.pending == 0


# --- who may ask


def test_other_hosts_and_origins_are_refused(service):
    assert service.request("GET", "/", headers={"Host": "evil.example"}).status == 421
    assert service.request("GET", "/", headers={"Host": f"localhost:{service.port}"}).status == 200
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = service.upload(recording(), headers=headers)
        assert (answer.status, answer.json["type"]) == (403, "urn:voxfide:problem:foreign-origin")
    assert service.upload(recording(), headers={"Origin": service.url}).status == 200
    assert "access-control-allow-origin" not in service.upload(recording()).headers


def test_every_answer_carries_the_security_headers(service):
    for path in ("/", "/v1/detectors", "/nothing", "/page/app.js", "/metrics"):
        headers = service.request("GET", path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_keys_are_needed_where_there_are_any(tmp_path):
    path = tmp_path / "keys"
    key, other = add_key(path, "desk"), add_key(path, "other")
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.encode() not in path.read_bytes()
    ring = KeyRing.read(path)
    assert (ring.owner(key), ring.owner(other), ring.owner(key[:-1]), ring.owner("")) == (
        "desk",
        "other",
        None,
        None,
    )
    with serving(ServiceSettings(port=0, keys=path)) as running:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"X-API-Key": key + "x"},
            {"Authorization": key},
        ):
            answer = running.upload(recording(), headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert running.request("GET", "/metrics", headers=headers).status == 401
        assert running.request("GET", "/healthz").status == 200
        assert running.request("GET", "/").status == 200
        assert running.upload(recording(), headers={"X-API-Key": key}).status == 200
        assert Client(running.url, key=other).detect(recording()).verdict
        with pytest.raises(ServiceError, match="not known") as refused:
            Client(running.url, key="nonsense").detectors()
        assert refused.value.status == 401


def test_another_host_cannot_be_bound_without_keys(tmp_path):
    for host in ("0.0.0.0", "::", "192.0.2.1", "voxfide.example"):
        with pytest.raises(UsageError, match="--keys"):
            ServiceSettings(host=host)
    with pytest.raises(UsageError, match="--keys"):
        ServiceSettings(allow_hosts=("voxfide.example",))
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert ServiceSettings(host=host).is_loopback
    behind = ServiceSettings(allow_hosts=("Voxfide.example",), keys=tmp_path)
    assert "voxfide.example" in behind.host_names
    assert ServiceSettings(host="0.0.0.0", keys=tmp_path).host_names is None


@pytest.mark.parametrize(
    "line", ["desk", "desk:sha256:12", "de sk:sha256:" + "0" * 64, "desk:md5:" + "0" * 64]
)
def test_damaged_files_of_keys_are_refused(tmp_path, line):
    path = tmp_path / "keys"
    path.write_text(f"# keys\n{line}\n")
    with pytest.raises(UsageError, match="line 2"):
        KeyRing.read(path)
    path.write_text("# none\n")
    with pytest.raises(UsageError, match="no key"):
        KeyRing.read(path)


# --- history, facts, counts


def test_history_is_kept_only_when_asked_for_and_apart_by_key(tmp_path, service):
    assert service.request("GET", "/v1/history").status == 404
    keys, base = tmp_path / "keys", tmp_path / "history.sqlite"
    mine, theirs = add_key(keys, "me"), add_key(keys, "they")
    settings = ServiceSettings(port=0, keys=keys, history=base, history_days=1.0)
    with serving(settings) as running:
        for name in ("first.wav", "second.wav"):
            found = Client(running.url, key=mine).detect(recording(), name=name)

        def entries(key: str) -> list[dict]:
            return running.request("GET", "/v1/history", headers={"X-API-Key": key}).json["entries"]

        assert [e["path"] for e in entries(mine)] == ["second.wav", "first.wav"]
        assert entries(mine)[0]["score"] == found.score
        assert entries(theirs) == []
        with sqlite3.connect(base) as raw:
            raw.execute("UPDATE verdicts SET time = time - 90000 WHERE path = 'first.wav'")
        assert [e["path"] for e in entries(mine)] == ["second.wav"]
        other = running.request("PUT", "/v1/history", headers={"X-API-Key": mine})
        assert (other.status, other.headers["allow"]) == (405, "DELETE, GET")
        assert running.request("DELETE", "/v1/history", headers={"X-API-Key": mine}).status == 204
        assert entries(mine) == []
    assert base.stat().st_mode & 0o777 == 0o600


def test_facts_and_counts(service, client):
    facts = client.detectors()
    assert facts["detectors"][0]["fingerprint"] == small_detector().fingerprint()
    assert facts["limits"]["upload_bytes"] == service.service.limits.upload_bytes
    assert client.is_ready()

    def counts() -> dict[str, float]:
        lines = service.request("GET", "/metrics").body.decode().splitlines()
        return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    before = counts()
    assert client.detect(recording(3.0)).verdict == "bonafide"
    after = counts()
    assert after["voxfide_audio_seconds_total"] - before["voxfide_audio_seconds_total"] == pytest.approx(3.0)
    key = 'voxfide_verdicts_total{verdict="bonafide"}'
    assert after[key] == before.get(key, 0) + 1
    route = 'voxfide_requests_total{method="POST",route="/v1/detect",status="200"}'
    assert after[route] == before.get(route, 0) + 1
    assert after['voxfide_request_seconds_count{route="/v1/detect"}'] > 0
    assert after["voxfide_pending_requests"] == 0


def test_an_uncalibrated_detector_states_no_probability():
    with serving(ServiceSettings(port=0), small_detector(calibrated=False)) as running:
        answer = running.upload(recording()).json
        assert (answer["probability_bonafide"], answer["llr"], answer["prior"]) == (None, None, None)
        refused = running.upload(recording(), "/v1/detect?prior=0.5")
        assert refused.status == 422
        assert "calibrat" in refused.json["detail"]


def test_batching_changes_no_answer():
    content = recording(12.0, seed=4)
    with serving(ServiceSettings(port=0)) as running:
        together = running.upload(content).json
    with serving(replace(ServiceSettings(port=0), batching=False)) as running:
        alone = running.upload(content).json
    assert together["score"] == pytest.approx(alone["score"], abs=1e-5)


def test_the_client_says_what_is_wrong(tmp_path, client):
    with pytest.raises(UsageError, match="nowhere.wav"):
        client.detect(tmp_path / "nowhere.wav")
    with pytest.raises(ServiceError, match="does not answer") as silent:
        Client("http://127.0.0.1:9").detectors()
    assert silent.value.status == 0
    assert not Client("http://127.0.0.1:9").is_ready()
    with pytest.raises(UsageError, match="address"):
        Client("localhost:8000")
    with pytest.raises(ServiceError) as bad:
        client.detect(b"%PDF-1.4 " + b"x" * 100)
    assert (bad.value.status, bad.value.problem["kind"]) == (422, "not-audio")
