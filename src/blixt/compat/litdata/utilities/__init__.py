"""As in LitData."""
