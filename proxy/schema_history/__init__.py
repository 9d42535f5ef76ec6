"""Each version of a database's schema, who changed it, and what changed that pghold has not seen.

What is kept is for reading and comparing, not for restoring: objects are sorted, and passwords are blanked.
"""
