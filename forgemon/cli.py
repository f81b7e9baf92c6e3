"""The `forgemon` command: finds the verb, runs it, and turns a UserError into one line and an exit code."""

from __future__ import annotations

import importlib
import sys

import click

from forgemon import __version__
from forgemon.errors import UserError

COMMANDS = {
    "demo": "Start a demo loop as a plain process, attach to it by PID, open the dashboard.",
    "run": "Start any command and watch it from its first step.",
    "attach": "Attach to a running process, or open a live run.",
    "detach": "Take every hook out of a process again.",
    "replay": "Open a recorded run with a timeline.",
    "check": "Diagnose a run without a screen.",
    "runs": "List recorded runs.",
    "symptoms": "Explain the symptom table.",
}
"""Verb -> its one line of help. The function is `command` in forgemon.commands.VERB, imported only when it is used."""


class LazyGroup(click.Group):
    """Imports a command's module only when that command runs: attach must not wait for the screen's imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"forgemon.commands.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="forgemon")
def forgemon() -> None:
    """Attach to a PyTorch training loop that is already running, see it live, and be told what is wrong."""


def main() -> None:
    try:
        status = forgemon(prog_name="forgemon", standalone_mode=False)
    except UserError as error:
        print(f"forgemon: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx else "forgemon"
        print(f"forgemon: {error.format_message().rstrip('.')}. How it is used: {verb} --help", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        if sys.stderr.isatty():
            print(file=sys.stderr)  # the shell's prompt would stand behind ^C
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
