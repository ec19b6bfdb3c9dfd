"""This panel shows what the policy says: then and now to one prompt, and at its best and worst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from halos_tui.formatting import aligned, count, visible
from halos_tui.run.view import Said, SaysView
from halos_tui.text_layout import row_spans
from halos_tui.widgets.canvas import Run
from halos_tui.widgets.panel import Line, Panel

MOST_OF_A_LINE = 0.4
"""A prompt takes at most so much of the room."""
LEAST_TEXT = 20
LONGEST_HEAD = 24
"""So many cells stand before a completion at most: what it is, its reward, an arrow."""
STYLES = {"best": "good", "worst": "bad"}


class SaysPanel(Panel[SaysView]):
    """Each completion has one line, or several where there is room for long texts.

    Without room for all of them the newest round's answer, the first round's, then the best stay.
    """

    IS_VERBATIM = True

    def lines(self, shown: SaysView, width: int, height: int) -> Iterator[Line]:
        if not shown.num_prompts:
            yield [("nothing is scored yet", "muted")]
            return
        ranked = [one for one in (shown.now, shown.first, shown.best, shown.worst) if one][:height]
        entries = [
            one for one in (shown.first, shown.now, shown.best, shown.worst) if one in ranked
        ]
        yield from self._entries(shown, entries, width, height)

    def caption(self, width: int) -> Line:
        del width
        shown = self.shown
        title: Line = [("what it says", "title")]
        if shown is None or not shown.num_prompts:
            return title
        of = f"  prompt {count(shown.number)} of {count(shown.num_prompts)}"
        asked = shown.now.prompt if shown.is_same_prompt and shown.now else ""
        return [*title, (of, "muted"), (f"  {self._on_one_line(asked)}" if asked else "", "")]

    def _entries(
        self, shown: SaysView, entries: Sequence[Said], width: int, room: int
    ) -> Iterator[Line]:
        names = max(len(one.what) for one in entries) if entries else 0
        rewards = aligned([one.reward for one in entries])
        indent = names + 2 + max(map(len, rewards), default=0) + 2
        texts = [self._text(shown, one, width - indent, room) for one in entries]
        shares = _shares([len(text) for text in texts], room)
        for one, reward, text, share in zip(entries, rewards, texts, shares, strict=True):
            head: Line = [
                (one.what.ljust(names + 2), "accent" if one is shown.now else "muted"),
                (f"{reward}  ", STYLES.get(one.what, "")),
            ]
            for number, line in enumerate(self._cut(text, share, width - indent)):
                yield [*(head if number == 0 else [(" " * indent, "")]), *line]

    def _text(self, shown: SaysView, one: Said, width: int, room: int) -> list[list[Run]]:
        """Lays a completion out, behind its prompt where that is not in the title."""
        asked: list[Run] = []
        if not (shown.is_same_prompt and one in (shown.first, shown.now)):
            most = max(LEAST_TEXT // 2, int(width * MOST_OF_A_LINE))
            prompt = self._clip(self._on_one_line(one.prompt), most)
            asked = [(prompt, "muted"), (" -> " if self.is_ascii else " → ", "muted")]
        used = sum(cell_len(text) for text, _ in asked)
        text = self._on_one_line(one.text)[: max(1, width) * room]
        return _wrapped(asked, text, used, max(1, width))

    def _cut(self, text: list[list[Run]], share: int, width: int) -> list[list[Run]]:
        """Returns the first lines, with a mark where something was left out."""
        kept = text[:share]
        if share < len(text):
            *before, (last, style) = kept[-1]
            left = width - sum(cell_len(piece) for piece, _ in before)
            kept[-1] = [*before, (self._clip(f"{last} {self._mark}", left), style)]
        return kept

    def _on_one_line(self, text: str) -> str:
        shown = visible(text.strip("\n").replace("\n", "\\n" if self.is_ascii else "↵"))
        return shown.encode("ascii", "backslashreplace").decode() if self.is_ascii else shown

    def _clip(self, text: str, width: int) -> str:
        if cell_len(text) <= width:
            return text
        return set_cell_size(text, max(0, width - 1)) + self._mark

    @property
    def _mark(self) -> str:
        return ">" if self.is_ascii else "…"


def is_long(shown: SaysView, width: int) -> bool:
    """Says whether a completion needs more than a line in a panel of that width."""
    left = width - LONGEST_HEAD
    all_said = (shown.first, shown.now, shown.best, shown.worst)
    return any(one and len(one.prompt) + len(one.text) > left for one in all_said)


def _wrapped(asked: list[Run], text: str, used: int, width: int) -> list[list[Run]]:
    """Breaks a text over lines; the first begins behind what was asked."""
    first, *_ = row_spans(text, max(1, width - used))
    lines = [[*asked, (text[first[0] : first[1]], "")]]
    rest = text[first[1] :].lstrip(" ")
    if rest:
        lines += [[(rest[start:end], "")] for start, end in row_spans(rest, width)]
    return lines


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """Gives each at least a line, and the rest of the room to those that need it, in turns."""
    shares = [1] * len(wanted)
    left = room - len(wanted)
    while left > 0 and any(share < want for share, want in zip(shares, wanted, strict=True)):
        for index, want in enumerate(wanted):
            if left > 0 and shares[index] < want:
                shares[index] += 1
                left -= 1
    return shares
