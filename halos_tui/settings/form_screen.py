"""Owns what a person can do on a screen with the settings form, whatever the settings are for."""

from __future__ import annotations

from typing import Any

from textual import on
from textual.events import Key
from textual.widgets import Input

from halos_tui.formatting import plural
from halos_tui.screens.base import HalosScreen
from halos_tui.screens.dialogs import Choice, ChoiceDialog
from halos_tui.settings.editor import SettingsEditor
from halos_tui.settings.form import SettingsForm
from halos_tui.widgets.virtual_list import VirtualList

SEARCH = "words of names and explanations"
ARROWS = {"up": -1, "down": 1}
"""These keys move in the list while a search is typed."""


class FormActions(HalosScreen):
    """It has a SettingsEditor and, below it, an Input `#find`; it asks before edits are lost.

    A letter that is no key of the screen begins a search.
    """

    def __init__(self) -> None:
        super().__init__()
        self.form: SettingsForm | None = None

    @property
    def editor(self) -> SettingsEditor:
        return self.query_one(SettingsEditor)

    @property
    def searched(self) -> VirtualList[Any, Any]:
        """Returns what a search is in, and what has the focus after it."""
        return self.editor.rows

    def on_key(self, event: Key) -> None:
        if self.focused is self._find and event.key in ARROWS:
            event.stop()
            self.searched.action_move(ARROWS[event.key])
        elif self.focused is self.searched and self._is_typed(event):
            event.stop()
            self._find.value = event.character or ""
            self.action_search()

    def why_not(self, action: str) -> str:
        if action == "complete" and not self.editor.is_completing:
            return "no path is typed"
        return super().why_not(action)

    def action_complete(self) -> None:
        self.editor.complete()

    def action_edit(self) -> None:
        self.editor.edit()

    def action_choose(self) -> None:
        self.editor.choose(1)

    def action_choose_before(self) -> None:
        self.editor.choose(-1)

    def action_reset(self) -> None:
        self.editor.reset()

    def action_search(self) -> None:
        self._find.display = True
        self._find.cursor_position = len(self._find.value)
        self.set_focus(self._find)  # at once, since the next key belongs to it

    def action_back(self) -> None:
        """Leaves the field, the search, then the screen."""
        if self.editor.is_editing:
            self.editor.cancel()
        elif self._find.display:
            self._find.value = ""
            self._find.display = False
            self.searched.focus()
        elif self.form is not None and self.form.edits:
            self.run_worker(self._ask_to_leave(len(self.form.edits)), group="leave", exclusive=True)
        else:
            self.leave()

    def leave(self) -> None:
        super().action_back()

    @on(Input.Changed, "#find")
    def _search(self, message: Input.Changed) -> None:
        self.editor.search(message.value)

    @on(Input.Submitted, "#find")
    def _searched(self, message: Input.Submitted) -> None:
        self._find.display = bool(message.value)
        self.searched.focus()

    @property
    def _find(self) -> Input:
        return self.query_one("#find", Input)

    def _is_typed(self, event: Key) -> bool:
        """Says whether a key is a letter that does nothing else; those that move in a list do not
        count.
        """
        bound = self.active_bindings.get(event.key)
        is_free = bound is None or bound.node is self.searched
        return is_free and bool(event.character) and str(event.character).isalpha()

    async def _ask_to_leave(self, num_edits: int) -> None:
        dialog = ChoiceDialog(
            f"Leave, and forget {plural(num_edits, 'change')}?",
            "",
            [Choice("y", "yes, forget them", answer=True)],
            stay="go on changing",
        )
        if await self.app.push_screen_wait(dialog):
            self.leave()
