"""LaunchDarkly evaluations into your lake.

    hook = LakewardHook(HttpSender("http://127.0.0.1:7171"))
    ldclient.set_config(Config(sdk_key, hooks=[hook]))

The hook never waits and never raises in the evaluation: events go into a
bounded queue, and one background thread sends them in batches. What did not
get through is counted in ``hook.dropped``.
"""

from .firehose_sender import FirehoseSender
from .hook import LakewardHook
from .http_sender import HttpSender
from .outbox import Counters, Outcome, Sender

__all__ = ["Counters", "FirehoseSender", "HttpSender", "LakewardHook", "Outcome", "Sender"]

try:
    from .async_hook import AsyncLakewardHook

    __all__.append("AsyncLakewardHook")
except ImportError:  # launchdarkly-server-sdk before 9.17
    pass
