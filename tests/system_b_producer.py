"""Sends events as reference system B's producer does: boto3 `put_record`, one event a call, the event's uuid as
partition key, three tries. Its environment variables are system B's.

On top of that it sends some events again (a producer that did not hear an answer does), keeps a rate, and says on its
output what was acknowledged, one line each, so that a test knows it whenever the process is killed.
"""

import json
import os
import random
import sys
import time
import uuid

import boto3

NAMES = ("account:created", "account:removed", "lesson:started", "lesson:finished", "payment:order:created",
         "payment:order:completed")
TRIES = 3
REPEATED = 0.05


def client():
    return boto3.client(
        "kinesis",
        region_name=os.environ["AWS_REGION"],
        aws_access_key_id=os.environ["AWS_ACCESS_KEY"],
        aws_secret_access_key=os.environ["AWS_SECRET_KEY"],
        endpoint_url=os.environ["KINESIS_ENDPOINT"],
    )


def put(kinesis, event):
    for _ in range(TRIES):
        try:
            kinesis.put_record(
                StreamName=os.environ["KINESIS_STREAM_NAME"], Data=json.dumps(event), PartitionKey=event["event_uuid"]
            )
            return True
        except Exception as error:
            print(f"failed {event['event_uuid']} {type(error).__name__}", file=sys.stderr)
    return False


def main(rate, seconds):
    kinesis = client()
    acknowledged = []
    begin = time.monotonic()
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        time.sleep(max(0, due - time.monotonic()))
        if acknowledged and random.random() < REPEATED:
            event = random.choice(acknowledged[-1_000:])
        else:
            event = {"event_uuid": str(uuid.uuid4()), "event_name": random.choice(NAMES), "created_at": time.time()}
        # Said before it is sent: a killed process may have sent it.
        print(f"sending {event['event_uuid']}", flush=True)
        if put(kinesis, event):
            acknowledged.append(event)
            print(f"acknowledged {event['event_uuid']}", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
