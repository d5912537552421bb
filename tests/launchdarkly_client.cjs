// The LaunchDarkly SDK for Node, unmodified, with our hook and with its events URI set to Lakeward.
const fs = require("node:fs");
const { init } = require("@launchdarkly/node-server-sdk");
const { FileDataSourceFactory } = require("@launchdarkly/node-server-sdk/integrations");
const { FirehoseClient } = require("@aws-sdk/client-firehose");
const { FirehoseSender, HttpSender, LakewardHook } = require("../sdk/node");

const [url, flags, users] = process.argv.slice(2);
const quiet = { error: console.error, warn() {}, info() {}, debug() {} };

async function main() {
  const hooks = [
    new LakewardHook({ sender: new HttpSender({ url, compress: true }), logger: quiet }),
    new LakewardHook({ sender: new FirehoseSender({ client: new FirehoseClient({}), stream: "by-firehose" }), logger: quiet }),
  ];
  const updateProcessor = new FileDataSourceFactory({ paths: [flags] }).getFactory();
  const client = init("sdk-key", { hooks, updateProcessor, baseUri: url, streamUri: url, eventsUri: url, logger: quiet });
  await client.waitForInitialization({ timeout: 10 });
  const expected = {};
  for (let n = 0; n < Number(users); n += 1) {
    const context = { kind: "user", key: `user-${n}`, email: "a@b.c", _meta: { privateAttributes: ["email"] } };
    const detail = await client.variationDetail("the-experiment", context, "default");
    if (detail.reason.inExperiment) expected[context.key] = detail.value;
    await client.variation("plain", context, false);
    client.track("bought", context, { basket: n }, n * 1.5);
  }
  await client.flush();
  const done = await Promise.all(hooks.map((hook) => hook.close(20000)));
  await client.close();
  console.log(JSON.stringify({ expected, done, dropped: hooks.map((hook) => hook.dropped) }));
}

main();
