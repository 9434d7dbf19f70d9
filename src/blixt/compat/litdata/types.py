"""As in LitData."""

from blixt.compat.litdata.core.media import Audio as Audio
from blixt.compat.litdata.core.media import File as File
from blixt.compat.litdata.core.media import Graph as Graph
from blixt.compat.litdata.core.media import Mesh as Mesh
from blixt.compat.litdata.core.media import Nifti as Nifti
from blixt.compat.litdata.core.media import Pdf as Pdf
from blixt.compat.litdata.core.media import Tensor as Tensor
from blixt.compat.litdata.core.media import Text as Text
from blixt.compat.litdata.core.media import Tiff as Tiff
from blixt.compat.litdata.core.media import Video as Video
from blixt.compat.litdata.core.pictures import Image as Image
from blixt.compat.litdata.core.pictures import Jpeg as Jpeg
from blixt.compat.litdata.core.pictures import JpegArray as JpegArray
from blixt.compat.litdata.core.pictures import Pil as Pil
