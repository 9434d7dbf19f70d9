"""As in LitData."""

from blixt.compat.litdata.core.affinity import NumaAffinity as NumaAffinity
from blixt.compat.litdata.core.affinity import get_gpu_affinity as get_gpu_affinity
from blixt.compat.litdata.core.affinity import get_numa_affinity as get_numa_affinity
