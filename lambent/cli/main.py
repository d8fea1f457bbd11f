"""Which commands there are. Nothing heavy is imported before one of them runs.

Exit codes: 0 done; 1 the cluster refused or could not be reached; 2 wrong use; 3 the function ran and failed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

import click

from lambent import __version__

# Command → module that defines `command`, and the line that --help shows.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("lambent.cli.up", "Start a whole cluster on this machine."),
    "config": ("lambent.cli.config", "Show the settings in force and where each came from."),
    "deploy": ("lambent.cli.deploy", "Package a folder and create or update a function from it."),
    "functions": ("lambent.cli.functions", "List, show and delete functions."),
    "invoke": ("lambent.cli.invoke", "Run a function."),
    "queue": ("lambent.cli.queue", "Look into the queue of asynchronous events, and steer it."),
    "explain": ("lambent.cli.explain", "Say why a request was throttled or started cold."),
    "top": ("lambent.cli.top", "Show live concurrency, pools and queues."),
    "logs": ("lambent.cli.logs", "Show what a function wrote."),
    "doctor": ("lambent.cli.doctor", "Look at a live installation and say what is wrong."),
    "bundle": ("lambent.cli.bundle", "Collect what somebody who helps needs to see, without secrets."),
    "backup": ("lambent.cli.backup", "Write functions, settings, queues and packages to a file."),
    "restore": ("lambent.cli.restore", "Bring back what a backup has."),
    "verify": ("lambent.cli.verify", "Prove that a cluster works, with a function made for it."),
    "runtimes": ("lambent.cli.runtimes", "Show the runtimes of this machine, and install their SDKs."),
    "simulate": ("lambent.cli.simulate", "Compare settings on a trace, on virtual time."),
    "keys": ("lambent.cli.keys", "Make the keys and certificates of an installation on Kubernetes."),
    "token": ("lambent.cli.token", "Make a bearer token for gRPC."),
}


class Lazy(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lambent")
def cli() -> None:
    """Lambent: AWS Lambda's API and semantics on your own machines."""


def main() -> None:
    """The console script. What users do wrong gets one line; a stack trace is a fault of ours."""
    from lambent.infra.config import ConfigError

    try:
        # Without its standalone mode, click answers the code of a command that ended by Exit.
        code = cli(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except ConfigError as error:
        sys.stderr.write(f"lambent: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
