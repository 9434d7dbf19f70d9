"""Exit codes of the server and the supervisor, one per reason that a script may want to tell apart."""

PORT_IN_USE = 3
BAD_DATA_DIR = 4
ANOTHER_SERVER = 5
FAILED = 6

FINAL = (PORT_IN_USE, BAD_DATA_DIR, ANOTHER_SERVER)
"""Starting again would end the same way."""
