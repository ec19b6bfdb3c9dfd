"""Owns the registry of all that a person can do: it feeds keys, footer, help and palette.

An action's id is also the name of the method that does it (`action_pause` for `pause`) and the name
under which a key map moves it to another key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding

ScreenName = Literal[
    "runs", "run", "completions", "tweak", "logs", "metrics", "changes", "new_run", "help"
]


@dataclass(frozen=True)
class Action:
    """`keys` are Textual's names, several with commas between. Without `screens` it is everywhere.

    An action that `writes` changes a run or makes one: it is absent with --read-only. One that is
    `of_field` has its key only while a field for it has the focus.
    """

    id: str
    keys: str
    title: str
    tooltip: str
    screens: tuple[ScreenName, ...] = ()
    writes: bool = False
    in_footer: bool = True
    of_field: bool = False


ON_RUNS: tuple[ScreenName, ...] = ("runs", "run")
FORMS: tuple[ScreenName, ...] = ("tweak", "new_run")
OF_A_RUN: tuple[ScreenName, ...] = ("run", "completions", "logs")

ACTIONS: tuple[Action, ...] = (
    Action("help", "question_mark", "Help", "All keys of this screen, and what they do"),
    Action("command_palette", "ctrl+p", "Palette", "Find an action by its name", in_footer=False),
    Action("next_theme", "ctrl+t", "Theme", "The next theme", in_footer=False),
    Action("search", "slash", "Search", "Filter or search what is shown"),
    Action("back", "escape", "Back", "To the screen before", in_footer=False),
    Action("quit", "q", "Quit", "Leave; every run goes on by itself"),
    # runs
    Action("open", "enter", "Open", "Open the run at the cursor", ("runs",)),
    Action("new_run", "n", "New", "Set up and start a new run", ("runs",), writes=True),
    Action("pause", "p", "Pause", "Pause at the end of the round or stage, or go on", ON_RUNS,
           writes=True),
    Action("tweak", "t", "Tweak", "Change settings from a round on", ON_RUNS, writes=True),
    Action("completions", "c", "Completions", "What the model says, round by round", ON_RUNS),
    Action("metrics", "m", "Metrics", "Charts of all that was measured, of several runs", ON_RUNS),
    Action("logs", "l", "Logs", "The output of any attempt", ON_RUNS),
    Action("changes", "h", "Changes", "Settings history; any two rounds compared", ON_RUNS),
    Action("retry", "r", "Retry", "Try the failed stage again", ON_RUNS, writes=True),
    Action("fork", "f", "Fork", "A new run from a round of this one", ON_RUNS, writes=True),
    Action("new_run", "n", "New", "A new run, with the settings of this one", ("run",),
           writes=True),
    Action("extend", "e", "Extend", "More rounds for this run", ON_RUNS, writes=True),
    Action("abort", "a", "Abort", "Stop for good; says what stays", ON_RUNS, writes=True),
    Action("select", "space", "Select", "Select or deselect the run", ("runs",)),
    Action("select_all", "ctrl+a", "All", "Select all runs shown, or none", ("runs",),
           in_footer=False),
    Action("sort", "s", "Sort", "Sort by the next column", ("runs", "completions")),
    Action("reverse", "S", "Reverse", "Sort the other way round", ("runs", "completions"),
           in_footer=False),
    Action("own_words", "N", "Notes", "Title, note and tags of your own", ("runs",), writes=True),
    Action("delete", "d,delete", "Delete", "Delete runs; says what is lost", ("runs",), writes=True,
           in_footer=False),
    Action("preview", "v", "Preview", "The run at the cursor, beside the list or below it",
           ("runs",)),
    # metrics
    Action("by", "x", "By", "By round, or by step of the training", ("metrics",)),
    Action("overlay", "o", "Overlay", "One more round over the others", ("metrics",)),
    Action("overlay_fewer", "O", "Fewer", "One round less", ("metrics",), in_footer=False),
    Action("smooth", "s", "Smooth", "Smooth more; after the most not at all", ("metrics",)),
    Action("log_scale", "L", "Log", "Logarithmic scale, or linear", ("metrics",)),
    Action("zoom_in", "plus", "In", "Closer, around the cursor", ("metrics",)),
    Action("zoom_out", "minus", "Out", "Less close, around the cursor", ("metrics",)),
    Action("zoom_whole", "0", "Whole", "From the first point to the last", ("metrics",),
           in_footer=False),
    Action("pin", "p", "Pin", "Another run over these, or one no longer", ("metrics",)),
    Action("open_round", "enter", "Read", "The completions of the round at the cursor",
           ("metrics",)),
    # changes
    Action("compare", "enter", "Compare", "The comparison alone, or with the history",
           ("changes",)),
    Action("older_previous", "left_curly_bracket", "Older", "Compare with the round before",
           ("changes",)),
    Action("older_next", "right_curly_bracket", "Newer", "Compare with the round after",
           ("changes",)),
    # completions
    Action("group", "g", "Group", "All completions of the prompt, or one", ("completions",)),
    Action("differences", "d", "Compare", "Chosen beside rejected, differences marked",
           ("completions",)),
    Action("over_rounds", "r", "Rounds", "The prompt in each round: its best and its worst answer",
           ("completions",)),
    Action("mark", "m", "Mark", "Your own mark on the answer, or none; /marked: finds it",
           ("completions",), writes=True),
    Action("note", "e", "Note", "Your own note about the answer; /note:text finds it",
           ("completions",), writes=True),
    Action("write", "w", "Write", "What is shown, into a file",
           ("completions", "metrics", "changes")),
    Action("only", "o", "Only", "Only what was cut off, only what is unscored, or all",
           ("completions",), in_footer=False),
    Action("all_rounds", "a", "All", "The completions of all rounds, or of one", ("completions",),
           in_footer=False),
    Action("zoom", "enter", "Zoom", "The page alone, or with the list", ("completions",),
           in_footer=False),
    Action("next_completion", "n", "Next", "The next completion", ("completions",),
           in_footer=False),
    Action("previous_completion", "N", "Previous", "The completion before", ("completions",),
           in_footer=False),
    Action("read_on", "J,space", "Read on", "Scroll the page down", ("completions", "changes"),
           in_footer=False),
    Action("read_back", "K", "Read back", "Scroll the page up", ("completions", "changes"),
           in_footer=False),
    # logs
    Action("follow", "f", "Follow", "Stay at the end while the log grows", ("logs",)),
    Action("next_hit", "n", "Next", "The next line with what is searched for", ("logs",)),
    Action("previous_hit", "N", "Previous", "The line before with what is searched for", ("logs",),
           in_footer=False),
    Action("top", "g,home", "Top", "The beginning of the log", ("logs",), in_footer=False),
    Action("bottom", "G,end", "Bottom", "The end of the log", ("logs",), in_footer=False),
    Action("wrap", "w", "Wrap", "Long lines on several rows, or cut off", ("logs",)),
    Action("choose_log", "o", "Other", "Choose another log from a list", ("logs",)),
    Action("choose_lines", "v", "Lines", "Choose lines to copy, from here on", ("logs",),
           in_footer=False),
    # forms, on which other letters are typed into the search
    Action("apply", "ctrl+s", "Apply", "Change the run, once you agreed", ("tweak",), writes=True),
    Action("apply_and_resume", "ctrl+r", "Apply, go on", "Change a paused run, and resume it",
           ("tweak",), writes=True),
    Action("start", "ctrl+s", "Start", "Make the run and start it", ("new_run",), writes=True),
    Action("edit", "enter", "Edit", "Type another value", FORMS),
    Action("complete", "tab", "Complete", "Complete the path that is typed, or list what begins so",
           FORMS, of_field=True),
    Action("choose", "space,right", "Next value", "The next of the values it takes", FORMS),
    Action("choose_before", "left", "Value before", "The one before it", FORMS, in_footer=False),
    Action("reset", "backspace", "Undo", "Take back what was typed here; where nothing was, the"
           " run's newest change of it", FORMS),
    Action("from_round", "F", "Round", "From which round on it holds", ("tweak",)),
    Action("plan", "P", "Plan", "Check the inputs; rounds, steps, disk, commands", ("new_run",)),
    Action("name_run", "N", "Name", "The run's name", ("new_run",)),
    Action("begin_anew", "O", "Origin", "Begin with something else", ("new_run",)),
    # screens that show a part of a run
    Action("previous", "left_square_bracket", "Before", "The round or the attempt before",
           ("completions", "logs", "metrics", "changes")),
    Action("next", "right_square_bracket", "After", "The round or the attempt after",
           ("completions", "logs", "metrics", "changes")),
    Action("copy", "y", "Copy", "To the clipboard, by way of the terminal",
           ("completions", "logs", "changes", *FORMS)),
    # run
    Action("next_prompt", "o", "Prompt", "The next prompt of what the model says", ("run",)),
    Action("open_prompt", "enter", "Read", "All that the model says to this prompt", ("run",)),
    Action("next_curve", "v", "Curve", "The next train curve", ("run",)),
)  # fmt: skip


def actions_of(screen: ScreenName, *, read_only: bool = False) -> list[Action]:
    """Returns what can be done on a screen, in the order of the table, its own actions first."""
    here = [
        action
        for action in ACTIONS
        if (not action.screens or screen in action.screens) and not (read_only and action.writes)
    ]
    return sorted(here, key=lambda action: not action.screens)


def bindings_of(screen: ScreenName) -> list[Binding]:
    """Returns the keys of a screen as Textual takes them; a key map moves them by their id."""
    return [_binding(action) for action in actions_of(screen) if not action.of_field]


def binding_of(name: str) -> Binding:
    """Returns the key of an action that is of a field."""
    return next(_binding(action) for action in ACTIONS if action.id == name)


def _binding(action: Action) -> Binding:
    return Binding(
        action.keys,
        action.id,
        action.title,
        tooltip=action.tooltip,
        show=action.in_footer,
        id=action.id,
    )
