"""Alembic's entry: the connection comes from proxy.store.engine."""

from alembic import context

from proxy.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
