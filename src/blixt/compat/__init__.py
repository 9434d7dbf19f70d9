"""Doors for people who arrive: other libraries' names and signatures, made of blixt's own rooms.

Each door is a folder that can stand on PYTHONPATH under the name of the library whose place it takes, so a
script and the processes that it starts import it unchanged.
"""
