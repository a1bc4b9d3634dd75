"""`python -m shitu`."""

from shitu.cli import main

main(prog_name="shitu")
