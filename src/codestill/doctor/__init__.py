"""What this machine offers, found by trying: versions, devices, and whether programs can be executed safely.

The sandbox is examined as it is used: every layer is asked for alone, every tier as a whole, and then
harmless programs that try to get out, or to pass without an answer, run in the best tier there is.
"""

from codestill.doctor.layers import Finding, layers, sandbox_in_short, tiers
from codestill.doctor.machine import machine
from codestill.doctor.probes import CONFIG, Probed, planted, probe

__all__ = [
    "CONFIG",
    "Finding",
    "Probed",
    "layers",
    "machine",
    "planted",
    "probe",
    "sandbox_in_short",
    "tiers",
]
