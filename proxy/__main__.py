"""`python -m proxy` is `pghold`."""

from proxy.cli import main

main()
