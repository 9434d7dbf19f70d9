"""As in LitData."""

from blixt.compat.litdata.core.serializers import Serializer as Serializer
