"""What can go wrong, told apart by what you do next. Every error says in its
text what the service said."""

from typing import Optional


class LakewardError(Exception):
    """Any of the following."""


class NotRunning(LakewardError):
    """No service was found: start one (``Client.start``), or say where it is."""


class Unavailable(LakewardError):
    """The service, or what it needs, could not be reached for as long as the
    client is patient: try again later. Nothing is lost by trying again."""


class Refused(LakewardError):
    """The service does not do this: change the request.

    ``status`` is the HTTP status, ``code`` the service's word for it.
    """

    def __init__(self, message: str, status: int = 0, code: str = ""):
        super().__init__(message)
        self.status = status
        self.code = code


class DataError(Refused):
    """The data do not allow it: a value that does not fit, a damaged file."""


class InterruptedAnswer(LakewardError):
    """A query's answer broke off half-way; the service's log says why."""


class RunFailed(LakewardError):
    """A run ended without having done its work; ``run`` knows more."""

    def __init__(self, message: str, run: Optional[object] = None):
        super().__init__(message)
        self.run = run
