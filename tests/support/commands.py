"""Every command of a program, also those of its groups, by the words that call it."""

import typer.main


def commands_of(app):
    """Commands by their words, such as `cluster` and `model pull`."""
    return dict(_below(typer.main.get_command(app)))


def _below(group, *words):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, *words, name)
        else:
            yield " ".join((*words, name)), command
