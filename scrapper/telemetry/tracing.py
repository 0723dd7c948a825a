"""OpenTelemetry traces, which are off by default and need ``requirements/otel.txt``.

OpenTelemetry's own environment variables, such as ``OTEL_EXPORTER_OTLP_ENDPOINT`` and
``OTEL_SERVICE_NAME``, configure the traces.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from structlog.typing import EventDict, Processor

from scrapper.errors import SettingsError

__all__ = ["tracing"]

_WITH_QUERY = ("http.url", "http.target", "url.full", "url.query")


@contextmanager
def tracing(exporter: str) -> Iterator[list[Processor]]:
    """Trace the requests to applications created in the block; export the spans with *exporter*.

    *exporter* is ``otlp`` or ``none``. The context manager yields processors for structlog, which
    add ``trace_id`` and ``span_id`` in hex to the log lines of traced requests. Spans never contain
    the queries of URLs, because these may contain secrets.

    Raises:
        SettingsError: OpenTelemetry's packages are not installed.
    """
    if exporter == "none":
        yield []
        return
    try:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.instrumentation.aiohttp_server import (  # noqa: PLC0415
            AioHttpServerInstrumentor,
        )
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            "OTEL_TRACES_EXPORTER: install instagram-scrapper[otel], or requirements/otel.txt"
        ) from error

    class WithoutQueries(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002
            for name in _WITH_QUERY:
                if name in span.attributes:
                    whole = "" if name == "url.query" else str(span.attributes[name])
                    span.set_attribute(name, whole.partition("?")[0])

    def add_ids(_logger: Any, _method: str, event: EventDict) -> EventDict:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = trace.format_trace_id(context.trace_id)
            event["span_id"] = trace.format_span_id(context.span_id)
        return event

    os.environ.setdefault("OTEL_SERVICE_NAME", "instagram-scrapper")
    provider = TracerProvider()
    provider.add_span_processor(WithoutQueries())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    instrumentor = AioHttpServerInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield [add_ids]
    finally:
        instrumentor.uninstrument()
        provider.shutdown()
