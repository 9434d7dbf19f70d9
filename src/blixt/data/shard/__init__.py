"""One shard file: its layout, its writer and its reader; FORMAT.md specifies every byte."""
