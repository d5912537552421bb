'use strict';

const http = require('node:http');
const https = require('node:https');
const { gzipSync, constants } = require('node:zlib');

/** Statuses after which the same request may go through, beside all of 5xx. */
const PASSING = new Set([408, 425, 429]);
/** The most that is read of an answer, and shown of it. */
const ANSWER_BYTES = 64 << 10;
const SHOWN = 300;

class HttpSender {
  #endpoint;
  #client;
  #agent;
  #headers;
  #compress;
  #timeout;

  constructor({ url, stream = 'launchdarkly-experiments-stream', token, compress = false, timeout = 10_000, agent }) {
    const base = new URL(url);
    if (base.protocol !== 'http:' && base.protocol !== 'https:') {
      throw new TypeError(`${url} is not an address such as http://127.0.0.1:7171`);
    }
    const path = base.pathname.replace(/\/+$/, '');
    this.#endpoint = new URL(`${base.origin}${path}/v1/streams/${encodeURIComponent(stream)}/records`);
    this.#client = base.protocol === 'https:' ? https : http;
    this.#agent = agent ?? new this.#client.Agent({ keepAlive: true, maxSockets: 1 });
    this.#headers = { 'content-type': 'application/x-ndjson', 'user-agent': 'lakeward-launchdarkly-node/0.1.0' };
    if (token) this.#headers.authorization = `Bearer ${token}`;
    this.#compress = compress;
    this.#timeout = timeout;
  }

  async send(lines, key) {
    const headers = { ...this.#headers, 'idempotency-key': key };
    let body = Buffer.from(lines.join(''));
    if (this.#compress) {
      body = gzipSync(body, { level: constants.Z_BEST_SPEED });
      headers['content-encoding'] = 'gzip';
    }
    headers['content-length'] = body.length;
    let answer;
    try {
      answer = await this.#post(body, headers);
      // A kept connection may have been closed meanwhile; a new one tells.
      if (answer === undefined) answer = await this.#post(body, headers);
    } catch (error) {
      return { retry: lines, why: String(error.code ?? error.message) };
    }
    if (answer === undefined) return { retry: lines, why: 'the connection was closed' };
    const { status, text, wait } = answer;
    if (status >= 200 && status < 300) return {};
    const why = `${status} ${text}`;
    if (PASSING.has(status) || status >= 500) return { retry: lines, why, wait };
    return { rejected: lines.length, why };
  }

  /** One attempt; `undefined` if it broke on a connection that was kept from an earlier one. */
  #post(body, headers) {
    return new Promise((resolve, reject) => {
      const request = this.#client.request(this.#endpoint, { method: 'POST', headers, agent: this.#agent });
      const late = new Error('no answer in time');
      const timer = setTimeout(() => request.destroy(late), this.#timeout).unref();
      // No request keeps the process alive: its end waits as long as `exitTimeout` says.
      request.on('socket', (socket) => socket.unref());
      request.on('close', () => clearTimeout(timer));
      request.on('error', (error) => {
        if (request.reusedSocket && error !== late) resolve(undefined);
        else reject(error);
      });
      request.on('response', (response) => {
        const chunks = [];
        let bytes = 0;
        const end = () => resolve({
          status: response.statusCode,
          text: Buffer.concat(chunks).toString('utf8').slice(0, SHOWN).trim(),
          wait: milliseconds(response.headers['retry-after']),
        });
        response.on('data', (chunk) => {
          chunks.push(chunk);
          bytes += chunk.length;
          // There is more of it: this connection is of no further use.
          if (bytes > ANSWER_BYTES) response.destroy();
        });
        response.on('error', reject);
        response.on('close', end);
      });
      request.end(body);
    });
  }
}

/** `Retry-After`: seconds, or a date. */
function milliseconds(text) {
  if (!text) return 0;
  const value = /^\d+$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(value) ? Math.max(0, value) : 0;
}

module.exports = { HttpSender };
