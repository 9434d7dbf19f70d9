"""Words of LitServe's loops: what becomes of a worker, and of a request."""

from enum import Enum


class WorkerSetupStatus:
    """States of a worker."""

    STARTING: str = "starting"
    READY: str = "ready"
    ERROR: str = "error"
    FINISHED: str = "finished"


class LitAPIStatus:
    """What a message of a loop says about its request."""

    OK: str = "OK"
    ERROR: str = "ERROR"
    FINISH_STREAMING: str = "FINISH_STREAMING"
    START: str = "START"


class LoopResponseType(Enum):
    """Whether a request is answered whole or in pieces."""

    STREAMING = "STREAMING"
    REGULAR = "REGULAR"
