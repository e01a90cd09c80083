"""`python -m accord` is the command line."""

from accord.cli.main import run

run()
