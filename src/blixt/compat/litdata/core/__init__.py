"""What stands behind LitData's names, made of `blixt.data`."""
