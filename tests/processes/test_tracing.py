"""The traces that a collector receives."""

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.instagram import StandIn
from tests.process import Service


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """Run an OTLP collector on loopback; yield its URL, and the list of received spans."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            thread.join()


def test_requests_are_traced_and_log_lines_have_the_trace_id(
    instagram: StandIn, tmp_path: Path
) -> None:
    with collector() as (url, spans):
        environment = {
            **instagram.environment,
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        }
        with Service(tmp_path, environment) as service:
            service.scrape("https://www.instagram.com/reel/cutonce-traced/")
            service.get("/posts?secret=S3CRET")
            service.terminate()
            assert service.wait() == 0
    by_name = {span.name: span for span in spans}
    scrape = by_name["POST /scrape"]
    lines = [line for line in service.log if line.get("trace_id") == scrape.trace_id.hex()]
    # These lines include the download thread's line about the truncated file.
    assert {"request", "media candidate failed"} <= {line["event"] for line in lines}
    assert len({line["request_id"] for line in lines}) == 1
    assert {line["span_id"] for line in lines} == {scrape.span_id.hex()}
    assert "GET /posts" in by_name
    assert "S3CRET" not in str(spans)


def test_nothing_is_traced_by_default(instagram: StandIn, tmp_path: Path) -> None:
    with collector() as (url, spans):
        environment = {**instagram.environment, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        with Service(tmp_path, environment) as service:
            service.scrape("https://www.instagram.com/reel/reel-untraced/")
            service.terminate()
            assert service.wait() == 0
    assert spans == []
    assert not [line for line in service.log if "trace_id" in line]


def test_tracing_without_its_packages_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "scrapper"],
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "MEDIA_ROOT": str(tmp_path / "media"),
            "OTEL_TRACES_EXPORTER": "otlp",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "OTEL_TRACES_EXPORTER: install instagram-scrapper[otel]" in done.stderr
