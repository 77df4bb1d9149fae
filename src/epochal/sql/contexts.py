"""The engine's contexts, all configured alike."""

from __future__ import annotations

from datafusion import SessionConfig, SessionContext, SQLOptions

QUERIES_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
"""A view or a prepared statement of the engine's own would keep the functions that it was made
with, past every reload; and nothing that answers queries needs to write."""


def new_context(partitions: int | None = None) -> SessionContext:
    """Make a context.

    Args:
        partitions: into how many parts, each on a thread of its own, the engine splits its work;
            None for one a processor.
    """
    config = (
        SessionConfig()
        .with_information_schema(True)
        # Strings are plain strings: plugin functions take these, and "views" of them would be
        # converted for every batch.
        .set("datafusion.execution.parquet.schema_force_view_types", "false")
        # A folder is all that is in it, also in folders of its own.
        .set("datafusion.execution.listing_table_ignore_subdirectory", "false")
        .set("datafusion.sql_parser.map_string_types_to_utf8view", "false")
    )
    if partitions is not None:
        config = config.with_target_partitions(partitions)
    context = SessionContext(config)
    # Otherwise each context remembers the files of a folder as it first saw them, so that two
    # queries could see different ones.
    context.sql("SET datafusion.runtime.list_files_cache_limit = '0K'")
    return context
