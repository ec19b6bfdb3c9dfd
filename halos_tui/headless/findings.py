"""The doctor's findings as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from halos_backend.findings import Finding, complaint

from halos_tui.commands import as_called
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
            lines.append(f"{'':8} -> {visible(as_called(finding.fix))}")
    return lines


def marked(finding: Finding) -> str:
    """On one line, its level first."""
    return f"{finding.level}: {complaint(finding)}"
