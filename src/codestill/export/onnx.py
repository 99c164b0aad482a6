"""ONNX, for ONNX Runtime and others: a directory with the graph, its weights and the tokenizer."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codestill.export.form import Form
from codestill.export.graph import positions_after, write_graph

GRAPH = "model.onnx"


def write(source: str, place: Path, kind: str) -> None:
    """One graph that takes and gives keys and values, and reads a prompt as well as a token."""
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    config = OnnxConfig(dynamic=True)
    write_graph(source, place, lambda graph, inputs: OnnxExporter().export(graph, inputs, config))


class OnnxReader:
    """The graph in ONNX Runtime, on this machine's processor."""

    def __init__(self, place: Path, threads: int, positions: int) -> None:
        runtime: Any = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = runtime.InferenceSession(
            str(place / GRAPH), options, providers=["CPUExecutionProvider"]
        )
        kept = [value for value in self.session.get_inputs() if len(value.shape) == 4]
        self.kept = [value.name for value in kept]
        # Batch, heads, tokens, width of a head: no token yet.
        self.empty = [np.zeros((1, int(v.shape[1]), 0, int(v.shape[3])), dtype=np.float32) for v in kept]
        self.begin()

    def begin(self) -> None:
        """See :class:`codestill.models.alone.Reader`."""
        self.memory, self.past = self.empty, 0

    def read(self, ids: Sequence[int], keep: int = 1) -> NDArray[Any]:
        """See :class:`codestill.models.alone.Reader`."""
        feed = {
            "input_ids": np.array([ids], dtype=np.int64),
            "position_ids": np.array(positions_after(self.past, ids), dtype=np.int64),
        }
        logits_1NV, *self.memory = self.session.run(
            None, feed | dict(zip(self.kept, self.memory, strict=True))
        )
        self.past += len(ids)
        return logits_1NV[0, -keep:]


FORM = Form(
    name="onnx",
    kinds=("f32",),
    write=write,
    open=OnnxReader,
    program="ONNX Runtime",
    package="onnxruntime",
    writes_with=("onnx", "onnxscript", "onnxruntime"),
    extra="onnx",
)
