"""`python -m halos_backend.stages.label --attempt-dir DIR`."""

from functools import partial

from halos_backend.stages.label.kept import KeptJudge
from halos_backend.stages.label.stage import execute
from halos_backend.stages.runtime import run_stage

if __name__ == "__main__":
    kept = KeptJudge()
    run_stage(partial(execute, kept=kept), park=kept.park, close=kept.close)
