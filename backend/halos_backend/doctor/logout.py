"""Examines whether a run would survive its owner's log-out, by systemd-logind's settings."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from halos_backend.findings import Finding

CONFIG_DIRS = ("usr/lib/systemd", "run/systemd", "etc/systemd")
"""Later ones win, as in systemd itself."""
LOGINCTL_TIMEOUT_S = 2.0


def examine_logout(
    root: Path = Path("/"), lingering: Callable[[str], bool | None] | None = None
) -> Finding:
    """`root` is where `etc` is; `lingering` says whether a user's processes outlive log-out."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in containers
        return Finding("ok", "log-out", f"the user {os.getuid()} has no account to log out of")
    value, users = read_kill_user_processes(root, user)
    if value is None:
        return Finding("ok", "log-out", "no rule of logind ends processes at log-out")
    if not value or not users:
        return Finding("ok", "log-out", "logind leaves processes alone at log-out")
    if (lingering or is_lingering)(user):
        return Finding("ok", "log-out", "logind ends processes at log-out, but this user lingers")
    return Finding(
        "warning",
        "log-out",
        "logind is set to end a user's processes at log-out (KillUserProcesses), runs too",
        "loginctl enable-linger",
    )


def read_kill_user_processes(root: Path, user: str) -> tuple[bool | None, bool]:
    """(KillUserProcesses, or None where no file sets it; whether it concerns `user`)."""
    settings: dict[str, str] = {}
    for path in _config_files(root):
        settings |= _read_login_section(path)
    value = settings.get("KillUserProcesses")
    if value is None:
        return None, True
    only = settings.get("KillOnlyUsers", "").split()
    excluded = settings.get("KillExcludeUsers", "root").split()
    concerned = user not in excluded and (not only or user in only)
    return value.lower() in ("yes", "true", "1", "on"), concerned


def is_lingering(user: str) -> bool | None:
    """Whether logind keeps the user's processes; None where it cannot be asked."""
    if shutil.which("loginctl") is None:
        return None
    try:
        shown = subprocess.run(
            ["loginctl", "show-user", user, "--property=Linger", "--value"],
            capture_output=True,
            text=True,
            timeout=LOGINCTL_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip() == "yes"


def _config_files(root: Path) -> list[Path]:
    """The main files, then the drop-ins in the order of their names."""
    main = [root / folder / "logind.conf" for folder in CONFIG_DIRS]
    drop_ins: dict[str, Path] = {}
    for folder in CONFIG_DIRS:
        for path in (root / folder / "logind.conf.d").glob("*.conf"):
            drop_ins[path.name] = path
    return [*main, *(drop_ins[name] for name in sorted(drop_ins))]


def _read_login_section(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    settings, section = {}, ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line
        elif section == "[Login]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            settings[key.strip()] = value.strip()
    return settings
