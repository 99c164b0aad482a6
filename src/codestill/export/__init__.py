"""From a trained student to what a small machine runs, and the proof that it is still that student.

form      what a form of artefact is; gguf, ollama, openvino and onnx are the forms
graph     what openvino and onnx are made of
targets   what can be written, by name
deployed  an artefact in the program that runs it, asked, scored and timed as the student is
speed     the process in which it is timed
fidelity  how far an artefact's probabilities are from the student's, token by token
exporter  a run that writes, measures and evaluates artefacts, and refuses those that are not the same
"""

from codestill.export.exporter import Artefact, ExportConfig, Exports, Tolerance, export, read_exports

__all__ = ["Artefact", "ExportConfig", "Exports", "Tolerance", "export", "read_exports"]
