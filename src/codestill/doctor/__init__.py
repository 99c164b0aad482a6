"""What this machine offers, found by trying: versions, devices, and whether programs can be executed safely.

The sandbox is tested as it is used: every layer alone, every tier as a whole, and then harmless programs
that try to break out, or to pass without solving anything, run in the best tier available.

Of a teacher and a student it says how well their tokenizers agree.
"""

from codestill.doctor.layers import Availability, layers, sandbox_in_short, tiers
from codestill.doctor.machine import machine
from codestill.doctor.probes import CONFIG, Probed, planted, probe
from codestill.doctor.tokenizers import compare_tokenizers

__all__ = [
    "CONFIG",
    "Availability",
    "Probed",
    "compare_tokenizers",
    "layers",
    "machine",
    "planted",
    "probe",
    "sandbox_in_short",
    "tiers",
]
