'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const path = require('node:path');
const { test } = require('node:test');

const { FirehoseSender, HttpSender, LakewardHook } = require('..');
const { Server, client, until } = require('./support/server.cjs');

const ROOT = path.join(__dirname, '..');

function make(sender, settings = {}) {
  const warnings = [];
  const logger = { warn: (message) => warnings.push(message) };
  return Object.assign(new LakewardHook({ sender, logger, pauseMin: 20, ...settings }), { warnings });
}

function record(hook, ...values) {
  for (const value of values) {
    const detail = { value, variationIndex: 0, reason: { kind: 'FALLTHROUGH', inExperiment: true } };
    assert.deepEqual(hook.afterEvaluation({ flagKey: 'flag', context: { kind: 'user', key: 'u' } }, { a: 1 }, detail), { a: 1 });
  }
}

function balanced(hook) {
  const counters = hook.counters;
  const parts = [counters.droppedFull, counters.droppedRejected, counters.droppedClosed, counters.droppedInvalid];
  assert.equal(parts.reduce((a, b) => a + b), counters.dropped);
  assert.equal(counters.recorded, counters.sent + counters.dropped + counters.pending);
  return counters;
}

const numbers = (n) => Array.from({ length: n }, (_, index) => index);

async function withServer(replies, run) {
  const server = await Server.start(...replies);
  try {
    await run(server);
  } finally {
    server.release();
    await server.stop();
  }
}

test('the real client sends what is in the experiment', () => withServer([], async (server) => {
  const hook = make(new HttpSender({ url: `${server.url}/prefix/`, token: 't0ken' }));
  const ld = await client(hook);
  const expected = new Map();
  for (const n of numbers(200)) {
    const context = { kind: 'user', key: `user-${n}`, n };
    const detail = await ld.variationDetail('the-experiment', context, 'default');
    await ld.variation('plain', context, false);
    if (detail.reason.inExperiment) expected.set(context.key, detail.value);
  }
  assert.ok(expected.size > 100 && expected.size < 200);
  assert.equal(await hook.flush(20_000), true);
  const got = new Map(server.events().map((event) => [event.evaluation_context.key, event.flag_value]));
  assert.deepEqual(got, expected);
  assert.equal(server.requests[0].url, '/prefix/v1/streams/launchdarkly-experiments-stream/records');
  assert.equal(server.requests[0].headers.authorization, 'Bearer t0ken');
  assert.equal(balanced(hook).sent, expected.size);
  await ld.close();
  await hook.close();
}));

test('all evaluations', () => withServer([], async (server) => {
  const hook = make(new HttpSender({ url: server.url, compress: true }), { inExperimentOnly: false });
  const ld = await client(hook);
  await ld.variation('plain', { kind: 'user', key: 'u' }, false);
  await ld.variation('missing', { kind: 'user', key: 'u' }, 'default');
  assert.equal(await hook.close(20_000), true);
  assert.deepEqual(server.events().map((e) => [e.flag_key, e.flag_value, e.in_experiment, e.reason_kind]), [
    ['plain', true, false, 'FALLTHROUGH'], ['missing', 'default', false, 'ERROR'],
  ]);
  await ld.close();
}));

test('a batch keeps its key over all attempts', () => withServer([503, 500, 429, 408, 'cut', 'cut', 200], async (server) => {
  const hook = make(new HttpSender({ url: server.url }));
  record(hook, 'a', 'b');
  assert.equal(await hook.flush(20_000), true);
  assert.equal(server.requests.length, 7);
  assert.equal(new Set(server.keys()).size, 1);
  record(hook, 'c');
  assert.equal(await hook.close(20_000), true);
  assert.equal(new Set(server.keys()).size, 2);
  assert.deepEqual(server.events().map((event) => event.flag_value), ['a', 'b', 'c']);
  assert.equal(balanced(hook).dropped, 0);
}));

test('a server that asks for time gets it', () => withServer([[429, { 'retry-after': '1' }]], async (server) => {
  const hook = make(new HttpSender({ url: server.url }), { batchRecords: 1 });
  const start = Date.now();
  record(hook, 'a');
  await until(() => hook.counters.sent === 1);
  assert.ok(Date.now() - start >= 950);
  await hook.close();
}));

test('a refusal for good drops its batch alone', () => withServer([401, 404], async (server) => {
  const hook = make(new HttpSender({ url: server.url }), { batchRecords: 2 });
  record(hook, ...numbers(6));
  assert.equal(await hook.flush(20_000), true);
  assert.equal(server.requests.length, 3);
  const counters = balanced(hook);
  assert.deepEqual([counters.sent, counters.droppedRejected, hook.dropped], [2, 4, 4]);
  assert.equal(hook.warnings.filter((text) => text.includes('refused for good')).length, 1, 'said once');
  await hook.close();
}));

test('batches within the limits, over kept connections', () => withServer([], async (server) => {
  const hook = make(new HttpSender({ url: server.url }), { batchRecords: 10_000, batchBytes: 100_000 });
  record(hook, ...numbers(700).map((n) => `${n}${'x'.repeat(1000)}`));
  assert.equal(await hook.flush(20_000), true);
  assert.ok(server.requests.every(({ body }) => body.length <= 100_000));
  assert.equal(server.events().length, 700);
  assert.ok(server.connections < server.requests.length, `${server.connections} connections`);
  await hook.close();
}));

test('a full queue drops and counts', () => withServer([], async (server) => {
  server.hold();
  const hook = make(new HttpSender({ url: server.url }), { capacity: 1000 });
  record(hook, ...numbers(20_000));
  const counters = balanced(hook);
  assert.equal(counters.droppedFull, 19_000);
  assert.equal(await hook.flush(50), false);
  server.release();
  assert.equal(await hook.flush(20_000), true);
  assert.equal(server.events().length, balanced(hook).sent);
  await hook.close();
}));

test('large values fill the queue by their bytes', () => withServer([], async (server) => {
  server.hold();
  const hook = make(new HttpSender({ url: server.url }), { capacityBytes: 1_000_000, batchBytes: 200_000 });
  record(hook, 'x'.repeat(2_000_000));
  assert.equal(balanced(hook).droppedFull, 1, 'it alone is too much');
  const value = { k: numbers(100).map(() => 'ü'.repeat(500)) };
  record(hook, ...numbers(50).map(() => value));
  assert.deepEqual([balanced(hook).pending, balanced(hook).droppedFull], [9, 42]);
  record(hook, 1);
  assert.equal(balanced(hook).pending, 10, 'a small one has room');
  server.release();
  assert.equal(await hook.flush(20_000), true);
  record(hook, ...numbers(9).map(() => value));
  assert.equal(await hook.close(20_000), true);
  assert.equal(server.events().length, 19);
  assert.ok(server.requests.every(({ body }) => body.length <= 200_000));
}));

test('the end has an end', () => withServer([], async (server) => {
  server.hold();
  const hook = make(new HttpSender({ url: server.url }), { batchRecords: 10 });
  record(hook, ...numbers(100));
  const start = Date.now();
  assert.equal(await hook.close(300), false);
  assert.ok(Date.now() - start < 5000);
  record(hook, 'late');
  const counters = balanced(hook);
  assert.deepEqual([counters.pending, counters.sent, counters.droppedClosed], [0, 0, 101]);
}));

test('a bad event harms no neighbour', async () => {
  const sent = [];
  const hook = make({ send: async (lines) => { sent.push(...lines); return {}; } });
  record(hook, 1, { toJSON() { throw new Error('no'); } }, 2);
  hook.afterEvaluation(undefined, {}, undefined);
  assert.equal(await hook.close(5000), true);
  assert.deepEqual(sent.map((line) => JSON.parse(line).flag_value), [1, 2]);
  assert.equal(balanced(hook).droppedInvalid, 2);
});

test('a sender that says nothing is asked again', async () => {
  const sent = [];
  const sender = { async send(lines) { return sent.push(...lines) > 1 ? {} : undefined; } };
  const hook = make(sender);
  record(hook, 1);
  assert.equal(await hook.close(20_000), true);
  assert.deepEqual([sent.length, balanced(hook).sent, hook.counters.retries], [2, 1, 1]);
});

/** Fails the entries and requests that it is told to. */
class Firehose {
  constructor(...plan) {
    Object.assign(this, { plan, calls: [], taken: [] });
  }

  async putRecordBatch({ Records }) {
    this.calls.push(Records.length);
    const step = this.plan.shift() ?? [];
    if (step instanceof Error) throw step;
    const RequestResponses = Records.map(({ Data }, index) => {
      if (step.includes(index)) return { ErrorCode: 'ServiceUnavailableException', ErrorMessage: 'Slow down.' };
      this.taken.push(JSON.parse(Data).flag_value);
      return { RecordId: 'r' };
    });
    return { FailedPutCount: step.length, RequestResponses };
  }
}

function failure(name, httpStatusCode) {
  return Object.assign(new Error('m'), { name, $metadata: { httpStatusCode } });
}

test('Firehose gets again only what failed', async () => {
  const there = new Firehose([1, 3], [0, 1], [1]);
  const hook = make(new FirehoseSender({ client: there }), { batchRecords: 5 });
  record(hook, ...numbers(5));
  assert.equal(await hook.flush(20_000), true);
  assert.deepEqual(there.calls, [5, 2, 2, 1]);
  assert.deepEqual(there.taken.sort(), [0, 1, 2, 3, 4]);
  await hook.close();
});

test('errors of Firehose', async () => {
  const there = new Firehose(
    failure('ServiceUnavailableException', 503), failure('ThrottlingException', 400), new Error('gone'), [],
    failure('ResourceNotFoundException', 400),
  );
  const hook = make(new FirehoseSender({ client: there }), { batchRecords: 2 });
  record(hook, 1, 2);
  assert.equal(await hook.flush(20_000), true);
  record(hook, 3, 4);
  assert.equal(await hook.flush(20_000), true);
  record(hook, 'x'.repeat(1_100_000), 5);
  assert.equal(await hook.close(20_000), true);
  assert.deepEqual([there.taken, balanced(hook).droppedRejected], [[1, 2, 5], 3]);
});

/** A program in a process of its own: its status and how long it ran. */
function run(program, url) {
  return new Promise((resolve, reject) => {
    const prelude = `
      const { HttpSender, LakewardHook } = require(${JSON.stringify(ROOT)});
      const make = (settings) => new LakewardHook({ sender: new HttpSender({ url: process.argv[1] }), pauseMin: 20, ...settings });
      const record = (hook, value) => hook.afterEvaluation({ flagKey: 'f', context: { kind: 'user', key: 'u' } }, {},
        { value, variationIndex: 0, reason: { kind: 'FALLTHROUGH', inExperiment: true } });`;
    const start = Date.now();
    const child = spawn(process.execPath, ['-e', prelude + program, url], { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (chunk) => { errors += chunk; });
    child.on('error', reject);
    child.on('exit', (status) => resolve({ status, errors, took: Date.now() - start }));
  });
}

test('a process that ends sends what it has, and nothing keeps it alive', () => withServer([503], async (server) => {
  const done = await run('const hook = make({ flushInterval: 60000 }); for (let n = 0; n < 50; n += 1) record(hook, n);', server.url);
  assert.equal(done.status, 0, done.errors);
  assert.ok(done.took < 10_000);
  assert.deepEqual(server.events().map((event) => event.flag_value), numbers(50));
}));

test('a process that ends waits for nobody for ever', () => withServer([], async (server) => {
  server.hold();
  const done = await run('record(make({ exitTimeout: 300, flushInterval: 1 }), 1); setTimeout(() => {}, 50);', server.url);
  assert.equal(done.status, 0, done.errors);
  assert.ok(done.took < 15_000, `${done.took}`);
}));

test('modules of both kinds', async () => {
  const { HttpSender: Imported, default: all } = await import('../index.mjs');
  assert.equal(Imported, HttpSender);
  assert.equal(all.LakewardHook, LakewardHook);
});

test('what is no sender is refused at once', () => {
  assert.throws(() => new HttpSender({ url: 'ftp://x' }), TypeError);
  assert.throws(() => new FirehoseSender({ client: {} }), TypeError);
  assert.throws(() => new LakewardHook({}), TypeError);
});
