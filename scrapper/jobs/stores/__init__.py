"""Where jobs are kept: in memory, in a SQLite file, or in Redis."""
