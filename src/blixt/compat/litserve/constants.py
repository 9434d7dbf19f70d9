"""Names that spec files of LitServe's users import."""

_DEFAULT_LIT_API_PATH = DEFAULT_PATH = "/predict"
"""Where a LitAPI answers unless it, or its spec, says otherwise."""
