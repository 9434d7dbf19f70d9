"""As in LitData."""

from blixt.compat.litdata.core.dataset import train_test_split as train_test_split
