"""OpenTelemetry: turns as spans and metrics, for whatever collects them. Extra `undercroft[otel]`.

`drawing.py` and `metering.py` decide what is told, without the library; `sending.py` alone imports
it; `exporter.py` is what a runtime is given.
"""

from undercroft.adapters.otel.exporter import OTelExporter

__all__ = ["OTelExporter"]
