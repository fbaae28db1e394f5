"""The command that makes a shell complete the others."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tallymesh.cli.options import common_options

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@common_options
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options and their values.

    \b
    Examples:
      tallymesh completion bash > ~/.local/share/bash-completion/completions/tallymesh
      tallymesh completion zsh > "${fpath[1]}/_tallymesh"
      tallymesh completion fish > ~/.config/fish/completions/tallymesh.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    script = kind(context.find_root().command, {}, "tallymesh", "_TALLYMESH_COMPLETE")
    # Not source(): for bash, that runs one to look at its version, and says so if there is none.
    click.echo(script.source_template % script.source_vars())
