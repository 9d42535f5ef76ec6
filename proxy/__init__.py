"""Everything that waits, listens, stores or shows: sessions, holds, audit, operator access, command line."""
