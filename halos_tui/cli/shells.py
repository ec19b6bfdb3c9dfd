"""Owns what bash, zsh and fish run at a press of Tab, and how the program answers them.

typer finds what fits, detects the shell and installs the script. The scripts are ours, because
typer's take `KEY=VALUE` for three words in bash, put a space behind every key, and format help
with rich (0.1 s). All three shells ask alike, and get lines of `VALUE<tab>HELP`; with `:files` or
`:folders` for its help the value is a name that the shell completes by itself.
"""

from __future__ import annotations

import os
from typing import Any

from typer import _completion_shared
from typer._click import shell_completion

ASK = '_HALOS_TUI_COMPLETE=complete_lines _TYPER_COMPLETE_ARGS="%s" %s 2>/dev/null'

BASH = r"""
_halos_tui_completion() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}"
    local word="${line##*[[:space:]]}" found
    # bash replaces what stands behind the last '=' or ':' only
    local kept="${word%"${word##*[=:]}"}"
    COMPREPLY=()
    for found in $(ASK_BASH); do
        case "$found" in
            *$'\t':files) compopt -o default ;;
            *$'\t':folders) compopt -o dirnames ;;
            *) found="${found%%$'\t'*}"
               [[ "$found" == *= ]] && compopt -o nospace
               COMPREPLY+=("${found#"$kept"}") ;;
        esac
    done
}
complete -F _halos_tui_completion halos-tui
""".replace("ASK_BASH", ASK % ("$line", '"$1"'))

ZSH = r"""
#compdef halos-tui
_halos_tui() {
    local found value about
    local -a whole keys
    for found in ${(f)"$(ASK_ZSH)"}; do
        value=${found%%$'\t'*}
        about=${found#*$'\t'}
        case $value:$about in
            *:files) _files; return ;;
            *:folders) _files -/; return ;;
            *=:*) keys+=("${value//:/\\:}:$about") ;;
            *) whole+=("${value//:/\\:}:$about") ;;
        esac
    done
    (( $#keys )) && _describe -V setting keys -S ''
    (( $#whole )) && _describe -V value whole
}
compdef _halos_tui halos-tui
""".replace("ASK_ZSH", ASK % ("${(j: :)words[1,CURRENT]}", "${~words[1]}"))

FISH = r"""
function __halos_tui_complete
    set -l line (commandline -cp)
    set -l program (commandline -opc)[1]
    set -l found (ASK_FISH)
    switch "$found[1]"
        case '*'\t:files
            __fish_complete_path (commandline -ct)
        case '*'\t:folders
            __fish_complete_directories (commandline -ct)
        case '*'
            printf '%s\n' $found
    end
end
complete -c halos-tui -f -a '(__halos_tui_complete)'
""".replace("ASK_FISH", "env " + ASK % ("$line", "$program"))


class LineComplete(shell_completion.ShellComplete):
    """Answers every shell with lines; see the module."""

    name = "lines"
    source_template = ""

    def source_vars(self) -> dict[str, Any]:
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        """Returns the words before the cursor's word, and what is typed of that one."""
        line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
        words = shell_completion.split_arg_string(line)[1:]
        is_new = not words or line[-1:].isspace()
        return (words, "") if is_new else (words[:-1], words[-1])

    def get_completions(
        self, args: list[str], incomplete: str
    ) -> list[shell_completion.CompletionItem]:
        """Completes like the base class, but an option that still lacks its value is no mistake.

        At such a mistake the parser would forget the run that is named before it.
        """
        complete = args[:-1] if args and args[-1].startswith("-") else args
        context = shell_completion._resolve_context(
            self.cli, self.ctx_args, self.prog_name, complete
        )
        asked, incomplete = shell_completion._resolve_incomplete(context, args, incomplete)
        return asked.shell_complete(context, incomplete)

    def format_completion(self, item: shell_completion.CompletionItem) -> str:
        return f"{item.value}\t{' '.join((item.help or '').split())}"


def offer_completion() -> None:
    """Makes typer show, install and answer these scripts instead of its own."""
    shell_completion.add_completion_class(LineComplete, LineComplete.name)
    scripts = {"bash": BASH, "zsh": ZSH, "fish": FISH}
    _completion_shared._completion_scripts.update(
        {shell: script.replace("%", "%%") for shell, script in scripts.items()}  # typer formats it
    )
