"""Writes `serialized.json` with LitData itself: `pip install litdata==0.2.76`, then run this file.

For every case: the serializer, its bytes and the format's name, and which serializers would take the value.
"""

import json
import tempfile
from pathlib import Path

import litdata.types
from litdata.streaming import serializers
from serializer_cases import cases, write_files

with tempfile.TemporaryDirectory() as folder:
    write_files(Path(folder))
    made: list[list[object]] = []
    for name, value in cases(litdata.types, serializers, Path(folder)):
        content, kind = getattr(serializers, f"{name}Serializer")().serialize(value)
        takers = [key for key, one in serializers._SERIALIZERS.items() if one.can_serialize(value)]
        made.append([name, content.hex(), kind, takers])
lines = ",\n".join(json.dumps(case) for case in made)
(Path(__file__).parent / "serialized.json").write_text(f"[\n{lines}\n]\n")
