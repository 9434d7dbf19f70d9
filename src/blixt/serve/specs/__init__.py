"""Other people's wire APIs on top of `predict`."""
