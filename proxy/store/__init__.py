"""Where holds and operators are kept: one schema through SQLAlchemy Core, brought up to date by Alembic at start."""

from proxy.store.engine import Store, open_store

__all__ = ["Store", "open_store"]
