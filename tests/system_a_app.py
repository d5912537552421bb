"""An application with the LaunchDarkly SDK and our hook, as reference system A's: evaluates an experiment for one user
after the other, and says which evaluations it knows to be delivered. Killed at any time.

`system_a_app.py URL FLAGS FIRST COUNT`
"""

import sys

from service import ROOT

sys.path.insert(0, str(ROOT / "sdk/python/src"))

from lakeward_launchdarkly import HttpSender, LakewardHook  # noqa: E402
from test_launchdarkly import client, evaluate  # noqa: E402

ROUND = 50


def main(url, flags, first, count):
    hook = LakewardHook(HttpSender(url), batch_records=40, flush_interval=0.02)
    made = client(flags, [hook])
    for start in range(first, first + count, ROUND):
        print(f"begun {start + ROUND}", flush=True)
        expected = evaluate(made, [f"user-{number}" for number in range(start, start + ROUND)])
        if not hook.flush(60) or hook.dropped:
            raise SystemExit(f"not delivered: {hook.counters}")
        for key, value in expected.items():
            print(f"delivered {key} {value}", flush=True)
    made.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
