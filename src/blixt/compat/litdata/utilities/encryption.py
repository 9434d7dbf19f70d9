"""As in LitData."""

from blixt.compat.litdata.core.crypto import Encryption as Encryption
from blixt.compat.litdata.core.crypto import FernetEncryption as FernetEncryption
from blixt.compat.litdata.core.crypto import RSAEncryption as RSAEncryption
