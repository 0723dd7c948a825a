"""Where jobs are stored: in memory, in a SQLite file, or in Redis."""
