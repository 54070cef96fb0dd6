"""`python -m pinqueue`: hands over to the command line."""

from pinqueue.cli import main

main()
