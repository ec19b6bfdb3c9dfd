"""The doctor's findings as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from halos_backend.doctor import Finding

from halos_tui.formatting import columns, visible


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """An aligned table; below a finding that is not well, what to do now."""
    rows = [
        [finding.level, visible(finding.subject), visible(finding.text)] for finding in findings
    ]
    table = columns(("level", "subject", "finding"), rows)
    lines = []
    for finding, row in zip(findings, table[1:], strict=True):
        lines.append(row)
        if finding.fix:
            lines.append(f"{'':8} -> {visible(finding.fix)}")
    return lines


def complaint(finding: Finding) -> str:
    """A warning or problem on one line."""
    fix = f"; {finding.fix}" if finding.fix else ""
    return f"{finding.level}: {finding.subject}: {finding.text}{fix}"
