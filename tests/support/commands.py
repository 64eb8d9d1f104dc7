"""Every command of a program, also those of its groups, by the words that call it."""

import typer.main


def commands_of(app):
    """Commands by their words, such as `cluster` and `model pull`."""
    return dict(_below(typer.main.get_command(app)))


def _below(group, *words):
    context = typer.Context(group)
    for name in group.commands:
        command = group.get_command(context, name)
        if hasattr(command, "commands"):
            yield from _below(command, *words, name)
        else:
            yield " ".join((*words, name)), command
