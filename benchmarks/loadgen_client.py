"""MLPerf LoadGen's Server scenario against a server over HTTP, through `http.client`: run by
load_generators.py in an environment that has `mlcommons-loadgen`, and in which vertebra isn't installed.

    python loadgen_client.py HOST PORT PATH REQUEST RATE BOUND_MS SECONDS

REQUEST is a file with a body, whose first line is the length of the JSON in it. Prints a JSON object: whether
LoadGen calls the run valid, and its percentiles in seconds.
"""

from __future__ import annotations

import http.client
import json
import queue
import re
import sys
import tempfile
import threading
from pathlib import Path

import mlperf_loadgen as loadgen

WORKERS, SAMPLES = 64, 16


class Network:
    """Answers LoadGen's queries by asking the server, over WORKERS connections."""

    def __init__(self, host: str, port: int, path: str, body: bytes, length: str) -> None:
        self._where, self._path, self._body = (host, port), path, body
        self._headers = {
            "Inference-Header-Content-Length": length, "Content-Type": "application/octet-stream"
        }  # fmt: skip
        self._todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.failed = 0
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: list) -> None:  # type: ignore[type-arg]
        for sample in samples:
            self._todo.put(sample.id)

    def _work(self) -> None:
        connection = http.client.HTTPConnection(*self._where, timeout=60)
        while (query := self._todo.get()) is not None:
            try:
                connection.request("POST", self._path, self._body, self._headers)
                answer = connection.getresponse()
                answer.read()
                self.failed += answer.status != 200
            except OSError:
                self.failed += 1
                connection.close()
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query, 0, 0)])

    def close(self) -> None:
        for _ in self._threads:
            self._todo.put(None)


def main(host: str, port: str, path: str, request: str, rate: str, bound_ms: str, seconds: str) -> None:
    length, _, body = Path(request).read_bytes().partition(b"\n")
    network = Network(host, int(port), path, body, length.decode())
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.Server
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = float(rate)
    settings.server_target_latency_ns = round(float(bound_ms) * 1e6)
    settings.server_target_latency_percentile = 0.99
    settings.min_duration_ms = round(float(seconds) * 1e3)
    settings.min_query_count = 662
    settings.use_token_latencies = False
    under_test = loadgen.ConstructSUT(network.issue, lambda: None)
    library = loadgen.ConstructQSL(SAMPLES, SAMPLES, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        output = loadgen.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs = loadgen.LogSettings()
        logs.log_output = output
        loadgen.StartTestWithLogSettings(under_test, library, settings, logs)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(under_test)
    network.close()
    found = dict(re.findall(r"^(.+?)\s*:\s*(.+?)\s*$", summary, re.M))
    print(
        json.dumps({
            "valid": found["Result is"] == "VALID" and network.failed == 0,
            "failed": network.failed,
            "p50": float(found["50.00 percentile latency (ns)"]) / 1e9,
            "p99": float(found["99.00 percentile latency (ns)"]) / 1e9,
            "summary": found,
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
