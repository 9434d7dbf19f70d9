"""LitData's serializers: how values of one kind become bytes in its files, and back.

Each is a class that users subclass, call by hand, or pass by name as `serializers={"name": ...}`. The bytes
are LitData's own, of 0.2.76. Which of them write and read a dataset is decided in `registry`.
"""

from blixt.compat.litdata.core.serializers.arrays import (
    NoHeaderNumpySerializer,
    NoHeaderTensorSerializer,
    NumpySerializer,
    TensorSerializer,
)
from blixt.compat.litdata.core.serializers.base import Serializer
from blixt.compat.litdata.core.serializers.graphs import GraphSerializer
from blixt.compat.litdata.core.serializers.images import (
    ImageSerializer,
    JPEGArraySerializer,
    JPEGSerializer,
    PILSerializer,
    TIFFSerializer,
)
from blixt.compat.litdata.core.serializers.media import (
    AudioSerializer,
    MeshSerializer,
    NiftiSerializer,
    PDFSerializer,
    VideoSerializer,
)
from blixt.compat.litdata.core.serializers.plain import (
    BooleanSerializer,
    BytesSerializer,
    FileSerializer,
    FloatSerializer,
    IntegerSerializer,
    JsonLeaf,
    JsonSerializer,
    NumericSerializer,
    PickleSerializer,
    StringSerializer,
    TextSerializer,
)
from blixt.compat.litdata.core.serializers.registry import BUILT_IN, merged

__all__ = [
    "BUILT_IN",
    "AudioSerializer",
    "BooleanSerializer",
    "BytesSerializer",
    "FileSerializer",
    "FloatSerializer",
    "GraphSerializer",
    "ImageSerializer",
    "IntegerSerializer",
    "JPEGArraySerializer",
    "JPEGSerializer",
    "JsonLeaf",
    "JsonSerializer",
    "MeshSerializer",
    "NiftiSerializer",
    "NoHeaderNumpySerializer",
    "NoHeaderTensorSerializer",
    "NumericSerializer",
    "NumpySerializer",
    "PDFSerializer",
    "PILSerializer",
    "PickleSerializer",
    "Serializer",
    "StringSerializer",
    "TIFFSerializer",
    "TensorSerializer",
    "TextSerializer",
    "VideoSerializer",
    "merged",
]
