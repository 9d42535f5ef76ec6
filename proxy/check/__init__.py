"""Lints scripts with the policy engine, without a server: `pghold check`."""
