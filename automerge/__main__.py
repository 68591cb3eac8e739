"""`python -m automerge`."""

from automerge.cli import main

main()
