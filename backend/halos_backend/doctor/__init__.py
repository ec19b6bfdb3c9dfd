"""What this machine has, and what a run's settings would need. Imports no ML library.

Whether the inputs are right, and which engines are taken, is the prepare stage's to find.
"""

from halos_backend.config.needs import disk_needed_bytes
from halos_backend.doctor.machine import examine_machine
from halos_backend.doctor.settings import examine_settings

__all__ = ["disk_needed_bytes", "examine_machine", "examine_settings"]
