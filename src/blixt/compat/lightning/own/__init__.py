"""Small things that Lightning's users import and blixt itself has no need of."""
