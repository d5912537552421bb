// The AWS SDK for JavaScript, unmodified: the endpoint comes from the environment.
const { FirehoseClient, PutRecordCommand, PutRecordBatchCommand, DescribeDeliveryStreamCommand } =
  require("@aws-sdk/client-firehose");

const record = (n) => ({ Data: Buffer.from(JSON.stringify({ n }) + "\n") });

async function main() {
  const firehose = new FirehoseClient({});
  const ids = new Set();
  const one = await firehose.send(new PutRecordCommand({ DeliveryStreamName: "events", Record: record(0) }));
  ids.add(one.RecordId);
  const Records = Array.from({ length: 50 }, (_, index) => record(index + 1));
  const batch = await firehose.send(new PutRecordBatchCommand({ DeliveryStreamName: "events", Records }));
  for (const entry of batch.RequestResponses) ids.add(entry.RecordId);
  let missing = null;
  try {
    await firehose.send(new DescribeDeliveryStreamCommand({ DeliveryStreamName: "never-made" }));
  } catch (error) {
    missing = error.name;
  }
  console.log(JSON.stringify({ ids: ids.size, failed: batch.FailedPutCount, missing }));
}

main();
