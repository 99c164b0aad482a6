"""What a server counts and times, as Prometheus reads it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "codestill_requests", "Requests by route and status.", ("route", "status"), registry=registry
        )
        self.prompt_tokens = Counter(
            "codestill_prompt_tokens", "Tokens of prompts that were read.", registry=registry
        )
        self.tokens = Counter("codestill_tokens", "Tokens that were generated.", registry=registry)
        self.answers = Counter(
            "codestill_answers", "Answers by the reason for which they ended.", ("finish",), registry=registry
        )
        self.hang_ups = Counter(
            "codestill_hang_ups", "Answers that nobody waited for any longer.", registry=registry
        )
        self.queue = Gauge("codestill_queue", "Answers that wait for a place.", registry=registry)
        self.rows = Gauge("codestill_batch_rows", "Answers that are being generated.", registry=registry)
        self.step_rows = Histogram(
            "codestill_step_rows", "Answers that got a token in a step.", buckets=_ROWS, registry=registry
        )
        self.first_token = Histogram(
            "codestill_first_token_seconds",
            "From a request to the first token of its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.answer_seconds = Histogram(
            "codestill_answer_seconds", "From a request to its answer.", buckets=_SECONDS, registry=registry
        )

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)
