"""`iomt-gateway completion` and `iomt-receiver completion`: what a shell needs to complete their commands."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gateway.cli import common

_WEARABLES = "iomt-gateway devices list 2>/dev/null | tail -n +2 | cut -c 1-17"


def add_parser(commands: common.Subparsers) -> None:
    """Add the gateway's."""
    _add(commands, "gateway")


def add_receiver_parser(commands: common.Subparsers) -> None:
    """Add the receiver's."""
    _add(commands, "receiver")


def _add(commands: common.Subparsers, program: str) -> None:
    completion = commands.add_parser(
        "completion",
        help="completion for a shell",
        description=f"Print what completes this program's commands in a shell. In bash: source <(iomt-{program}"
        f" completion bash). For all users: iomt-{program} completion bash >"
        f" /usr/share/bash-completion/completions/iomt-{program}; for zsh, > /usr/share/zsh/vendor-completions/"
        f"_iomt-{program}; for fish, > /usr/share/fish/vendor_completions.d/iomt-{program}.fish.",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(command=partial(_completion, program))


def _completion(program: str, arguments: argparse.Namespace) -> int:
    import shtab

    from gateway.cli import gateway, receiver

    whole = gateway.parser() if program == "gateway" else receiver.parser()
    for action in _actions(whole):
        if action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined] # shtab's own
        elif action.dest == "device":
            action.complete = shtab.cmd(_WEARABLES)  # type: ignore[attr-defined] # same
    print(shtab.complete(whole, arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of `parser` and of its commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - same
            for below in action.choices.values():
                yield from _actions(below)
