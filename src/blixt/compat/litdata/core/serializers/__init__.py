"""LitData's serializers: how values of one kind become bytes in its files, and back.

Each is a class that users subclass, call by hand, or pass by name as `serializers={"name": ...}`. The bytes
are LitData's own, of 0.2.76. Which of them write and read a dataset is decided in `registry`.
"""
