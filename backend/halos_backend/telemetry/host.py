"""Reads the host."""


def read_oom_kills() -> int | None:
    return None
