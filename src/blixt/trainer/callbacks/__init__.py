"""Callbacks that most runs want: one file each."""
