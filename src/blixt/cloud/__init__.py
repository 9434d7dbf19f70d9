"""The cloud: everything `blixt up` starts, except the code of the people who use it.

Objects with revisions and a change log, people and their rights, money, experiments and models, and the HTTP
API over them. The front door is small because the rest of blixt speaks to the cloud over HTTP; the rooms
inside (`db`, `objects`, `kinds`, `identity`, `money`, `registry`, `api`) are for the server itself.
"""

from blixt.cloud.errors import CloudError
from blixt.cloud.settings import Settings

__all__ = ["CloudError", "Settings"]
