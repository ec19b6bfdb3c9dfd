"""What this machine has, and what a run's settings would need. Imports no ML library."""

from halos_backend.config.needs import disk_needed_bytes
from halos_backend.doctor.finding import Finding
from halos_backend.doctor.judge import examine_judge
from halos_backend.doctor.machine import examine_machine
from halos_backend.doctor.run import examine_run
from halos_backend.doctor.sampler import examine_sampler
from halos_backend.doctor.settings import examine_settings

__all__ = [
    "Finding",
    "disk_needed_bytes",
    "examine_judge",
    "examine_machine",
    "examine_run",
    "examine_sampler",
    "examine_settings",
]
