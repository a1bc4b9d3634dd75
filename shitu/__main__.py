"""`python -m shitu`, and the command `shitu`: Ctrl-C while it is still being loaded is no traceback either."""

from __future__ import annotations

import sys


def run() -> None:
    try:
        from shitu.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; nothing was begun.\n")
        sys.exit(130)
    main(prog_name="shitu")


if __name__ == "__main__":
    run()
