"""Makes the engine's contexts, all with one configuration."""

from __future__ import annotations

from datafusion import SessionConfig, SessionContext, SQLOptions

QUERIES_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
"""A view or a prepared statement of the engine would keep the functions that it was made with past
every reload; and a database that answers queries needs no writes."""


def new_context(partitions: int | None = None) -> SessionContext:
    """Make a context.

    Args:
        partitions: into how many parts, each on its own thread, the engine splits its work; None
            for one per processor.
    """
    config = (
        SessionConfig()
        .with_information_schema(True)
        # Strings are plain strings: plugin functions take these, and string views would be
        # converted for every batch.
        .set("datafusion.execution.parquet.schema_force_view_types", "false")
        .set("datafusion.sql_parser.map_string_types_to_utf8view", "false")
        # A folder is read with its subfolders.
        .set("datafusion.execution.listing_table_ignore_subdirectory", "false")
    )
    if partitions is not None:
        config = config.with_target_partitions(partitions)
    context = SessionContext(config)
    # With the cache, each context would remember a folder's files as it first saw them, and two
    # queries could see different ones.
    context.sql("SET datafusion.runtime.list_files_cache_limit = '0K'")
    return context
