"""What Alembic runs: on the connection, and in the transaction, that the package's functions opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="public")
with context.begin_transaction():
    context.run_migrations()
