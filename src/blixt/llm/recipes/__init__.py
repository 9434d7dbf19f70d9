"""Training as scripts to read top to bottom, and to copy when yours must differ."""
