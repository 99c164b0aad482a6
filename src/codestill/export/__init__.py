"""From a trained student to a file that a small machine runs, and the proof that it is still that student.

targets   what can be written, by name
fidelity  how far an artefact's probabilities are from the student's, token by token
exporter  a run that writes, measures and evaluates artefacts, and refuses those that are not the same
"""

from codestill.export.exporter import Artefact, ExportConfig, Exports, Tolerance, export, read_exports

__all__ = ["Artefact", "ExportConfig", "Exports", "Tolerance", "export", "read_exports"]
