"""What a new installation begins with, as plain data: the fields of a row are the columns of its table (schema.sql)."""

from datetime import UTC, datetime

# From when the first prices and the first rate card count: before any call that could be priced by them.
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
