'use strict';

// A server that answers as it is told, and the real SDK without a network.

const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { gunzipSync } = require('node:zlib');

const FLAGS = {
  flags: {
    'the-experiment': {
      key: 'the-experiment', on: true, version: 3, salt: 's', offVariation: 0, variations: ['control', 'treatment'],
      fallthrough: { rollout: { kind: 'experiment', contextKind: 'user', seed: 61, variations: [
        { variation: 0, weight: 40000 }, { variation: 1, weight: 40000 },
        { variation: 0, weight: 20000, untracked: true },
      ] } },
    },
  },
  flagValues: { plain: true, numbers: { a: [1, 2.5] } },
};

/** Answers `replies` in turn and then 200, and keeps what it was sent. */
class Server {
  static async start(...replies) {
    const server = new Server();
    server.replies = replies;
    server.requests = [];
    server.connections = 0;
    server.isOpen = true;
    server.held = [];
    server.http = http.createServer((request, response) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        const answer = () => server.answer(request, response, Buffer.concat(chunks));
        if (server.isOpen) answer();
        else server.held.push(answer);
      });
    });
    server.http.on('connection', () => { server.connections += 1; });
    await new Promise((resolve) => server.http.listen(0, '127.0.0.1', resolve));
    server.url = `http://127.0.0.1:${server.http.address().port}`;
    return server;
  }

  answer(request, response, bytes) {
    const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes).toString() : bytes.toString();
    this.requests.push({ url: request.url, headers: request.headers, body });
    const reply = this.replies.shift() ?? 200;
    if (reply === 'cut') {
      request.socket.destroy();
      return;
    }
    const [status, headers] = Array.isArray(reply) ? reply : [reply, {}];
    response.writeHead(status, headers);
    response.end('{}');
  }

  hold() {
    this.isOpen = false;
  }

  release() {
    this.isOpen = true;
    this.held.splice(0).forEach((answer) => answer());
  }

  keys() {
    return this.requests.map(({ headers }) => headers['idempotency-key']);
  }

  /** What was taken, each batch once. */
  events() {
    const taken = new Map(this.requests.map(({ headers, body }) => [headers['idempotency-key'], body]));
    return [...taken.values()].flatMap((body) => body.trim().split('\n')).map((line) => JSON.parse(line));
  }

  stop() {
    this.http.closeAllConnections();
    return new Promise((resolve) => this.http.close(resolve));
  }
}

/** A real client that reads its flags from a file. */
async function client(...hooks) {
  const { init } = require('@launchdarkly/node-server-sdk');
  const { FileDataSourceFactory } = require('@launchdarkly/node-server-sdk/integrations');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'lakeward-'));
  const file = path.join(folder, 'flags.json');
  fs.writeFileSync(file, JSON.stringify(FLAGS));
  const source = new FileDataSourceFactory({ paths: [file] });
  const made = init('sdk-key', {
    hooks, updateProcessor: source.getFactory(), sendEvents: false, logger: { error() {}, warn() {}, info() {}, debug() {} },
  });
  await made.waitForInitialization({ timeout: 10 });
  fs.rmSync(folder, { recursive: true });
  return made;
}

async function until(condition, milliseconds = 20_000) {
  const end = Date.now() + milliseconds;
  while (!condition()) {
    if (Date.now() > end) throw new Error('it did not come to be');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

module.exports = { Server, client, until };
