"""`python -m halos_backend.stages.label --attempt-dir DIR`."""

from halos_backend.stages.label.stage import execute
from halos_backend.stages.runtime import run_stage

if __name__ == "__main__":
    run_stage(execute)
