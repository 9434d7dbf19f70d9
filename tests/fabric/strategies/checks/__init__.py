"""What ranks do together, one file an idea; `test_ranks.py` launches them and says what must come out."""

from tests.fabric.strategies.checks import data_parallel, parallel, pipelines, saving, sharding

FILES = (data_parallel, sharding, parallel, pipelines, saving)

__all__ = ["FILES", "data_parallel", "parallel", "pipelines", "saving", "sharding"]
