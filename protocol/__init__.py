"""Bytes <-> messages of the PostgreSQL frontend/backend protocol 3.0-3.2. Sans-IO, standard library only, no SQL."""
