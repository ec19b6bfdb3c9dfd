"""Finds what this machine has, and what a run's settings would need. Imports no ML library.

The prepare stage finds whether the inputs are right, and which engines are taken.
"""

from halos_backend.config.needs import disk_needed_bytes
from halos_backend.doctor.machine import examine_machine
from halos_backend.doctor.settings import examine_settings

__all__ = ["disk_needed_bytes", "examine_machine", "examine_settings"]
