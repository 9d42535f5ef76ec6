"""SQL text and session context -> decision. Pure: no sockets, files, clock or environment."""
