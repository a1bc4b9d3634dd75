"""`shitu check`: what is installed here, and whether the bundled models work."""

from __future__ import annotations

import click

EPILOG = "\b\nExample:\n  shitu check\n"


@click.command("check", epilog=EPILOG)
def check() -> None:
    """Versions, engine, CPU features, and a self-test of the bundled models. Status 1 if something is wrong."""
    from shitu.self_test import describe_machine, self_test

    for name, value in describe_machine():
        click.echo(f"{name:26}{value}")
    problems = 0
    for line, good in self_test():
        click.echo(f"{'ok' if good else 'FAILED':8}{line}")
        problems += not good
    if problems:
        raise SystemExit(1)
