"""A conversation to try the library on: `hybrid-memory demo` remembers it and asks about it."""
