"""Python imports this module when it starts, in every process that has this folder on PYTHONPATH.

It replaces the programs of the sample and train stages by those of `fake_stages`. All others, the
label stage among them, are the product's own, and so are all command lines.
"""

import sys

PACKAGE = "halos_backend.stages."
FAKES = ("sample", "train")


def stage_to_fake() -> str:
    """Return the stage that this process is the program of; empty for another program."""
    arguments = sys.orig_argv[1:]
    if len(arguments) < 2 or arguments[0] != "-m":
        return ""
    stage = arguments[1].removeprefix(PACKAGE)
    return stage if stage in FAKES and arguments[1].startswith(PACKAGE) else ""


if stage := stage_to_fake():
    import fake_stages

    sys.argv = sys.orig_argv[2:]
    fake_stages.main(stage)
