"""As in LitData."""

from blixt.compat.litdata.core.serializers import registry
from blixt.compat.litdata.core.serializers.arrays import NoHeaderNumpySerializer as NoHeaderNumpySerializer
from blixt.compat.litdata.core.serializers.arrays import NoHeaderTensorSerializer as NoHeaderTensorSerializer
from blixt.compat.litdata.core.serializers.arrays import NumpySerializer as NumpySerializer
from blixt.compat.litdata.core.serializers.arrays import TensorSerializer as TensorSerializer
from blixt.compat.litdata.core.serializers.base import Serializer as Serializer
from blixt.compat.litdata.core.serializers.graphs import GraphSerializer as GraphSerializer
from blixt.compat.litdata.core.serializers.images import ImageSerializer as ImageSerializer
from blixt.compat.litdata.core.serializers.images import JPEGArraySerializer as JPEGArraySerializer
from blixt.compat.litdata.core.serializers.images import JPEGSerializer as JPEGSerializer
from blixt.compat.litdata.core.serializers.images import PILSerializer as PILSerializer
from blixt.compat.litdata.core.serializers.images import TIFFSerializer as TIFFSerializer
from blixt.compat.litdata.core.serializers.media import AudioSerializer as AudioSerializer
from blixt.compat.litdata.core.serializers.media import MeshSerializer as MeshSerializer
from blixt.compat.litdata.core.serializers.media import NiftiSerializer as NiftiSerializer
from blixt.compat.litdata.core.serializers.media import PDFSerializer as PDFSerializer
from blixt.compat.litdata.core.serializers.media import VideoSerializer as VideoSerializer
from blixt.compat.litdata.core.serializers.plain import BooleanSerializer as BooleanSerializer
from blixt.compat.litdata.core.serializers.plain import BytesSerializer as BytesSerializer
from blixt.compat.litdata.core.serializers.plain import FileSerializer as FileSerializer
from blixt.compat.litdata.core.serializers.plain import FloatSerializer as FloatSerializer
from blixt.compat.litdata.core.serializers.plain import IntegerSerializer as IntegerSerializer
from blixt.compat.litdata.core.serializers.plain import JsonLeaf as JsonLeaf
from blixt.compat.litdata.core.serializers.plain import JsonSerializer as JsonSerializer
from blixt.compat.litdata.core.serializers.plain import NumericSerializer as NumericSerializer
from blixt.compat.litdata.core.serializers.plain import PickleSerializer as PickleSerializer
from blixt.compat.litdata.core.serializers.plain import StringSerializer as StringSerializer
from blixt.compat.litdata.core.serializers.plain import TextSerializer as TextSerializer

_SERIALIZERS = registry.BUILT_IN
_get_serializers = registry.merged
