"""Request and answer types."""
