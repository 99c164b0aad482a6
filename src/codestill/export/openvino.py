"""OpenVINO, Intel's runtime for small machines: a directory with the graph, its weights and the tokenizer."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codestill.export.form import Form
from codestill.export.graph import positions_after, write_graph

GRAPH = "openvino_model.xml"


def write(source: str, place: Path, kind: str) -> None:
    """One graph that keeps keys and values itself, and reads a prompt as well as a token; ``int8`` and
    ``int4`` store matrices so (NNCF), and multiply in the runtime's own precision."""
    from transformers.exporters.configs import OpenVINOConfig
    from transformers.exporters.exporter_openvino import OpenVINOExporter

    def exported(graph: Any, inputs: dict[str, Any]) -> Any:
        config = OpenVINOConfig(dynamic=True, quantizer=_quantizer(kind))
        return OpenVINOExporter().export(graph, inputs, config)

    with _unreported():
        write_graph(source, place, exported)


@contextmanager
def _unreported() -> Iterator[None]:
    """OpenVINO and NNCF send statistics of their use to their makers, but from continuous integration."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def _quantizer(kind: str) -> Any:
    if kind == "f32":
        return None
    from nncf import CompressWeightsMode
    from transformers.exporters.quantizers.quantizer_nncf import (
        NNCFOpenVINOQuantizer,
        NNCFWeightCompressionConfig,
    )

    if kind == "int8":
        return NNCFOpenVINOQuantizer(NNCFWeightCompressionConfig(mode=CompressWeightsMode.INT8_ASYM))
    mode = CompressWeightsMode.INT4_ASYM
    return NNCFOpenVINOQuantizer(NNCFWeightCompressionConfig(mode=mode, group_size=64, ratio=0.8))


class OpenVinoReader:
    """The graph on this machine's processor. It multiplies in float32, as on any other machine: by itself it
    takes bfloat16 where a processor has it (and with one thread 2026.4 divides by zero on tiny models)."""

    def __init__(self, place: Path, threads: int, positions: int) -> None:
        from openvino import Core

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        self.request = Core().compile_model(str(place / GRAPH), "CPU", settings).create_infer_request()
        self.past = 0

    def begin(self) -> None:
        """See :class:`codestill.models.alone.Reader`."""
        self.request.reset_state()
        self.past = 0

    def read(self, ids: Sequence[int], keep: int = 1) -> NDArray[Any]:
        """See :class:`codestill.models.alone.Reader`."""
        self.request.infer(
            {
                "input_ids": np.array([ids], dtype=np.int64),
                "position_ids": np.array(positions_after(self.past, ids), dtype=np.int64),
                "beam_idx": np.zeros(1, dtype=np.int32),
            }
        )
        self.past += len(ids)
        return np.array(self.request.get_output_tensor(0).data[0, -keep:], dtype=np.float32)


FORM = Form(
    name="openvino",
    kinds=("int8", "int4", "f32"),
    write=write,
    open=OpenVinoReader,
    program="OpenVINO",
    package="openvino",
    writes_with=("openvino", "nncf"),
    extra="openvino",
)
