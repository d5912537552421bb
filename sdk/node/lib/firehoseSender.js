'use strict';

/** Firehose's longest record, in bytes. */
const RECORD_BYTES_MAX = 1_024_000;
/** Errors after which the same request may go through, beside all of 5xx. */
const PASSING = new Set([
  'ServiceUnavailableException', 'InternalFailure', 'Throttling', 'ThrottlingException', 'ThrottledException',
  'RequestLimitExceeded', 'SlowDown', 'LimitExceededException', 'ExpiredToken', 'ExpiredTokenException',
  'RequestExpired',
]);

class FirehoseSender {
  #client;
  #stream;

  constructor({ client, stream = 'launchdarkly-experiments-stream' }) {
    if (typeof client?.putRecordBatch !== 'function' && typeof client?.send !== 'function') {
      throw new TypeError('`client` is a FirehoseClient or a Firehose of @aws-sdk/client-firehose');
    }
    this.#client = client;
    this.#stream = stream;
  }

  async send(lines) {
    const records = lines.map((line) => Buffer.from(line));
    const fitting = lines.filter((_, index) => records[index].length <= RECORD_BYTES_MAX);
    const tooLong = lines.length - fitting.length;
    if (!fitting.length) return { rejected: tooLong, why: 'a record is longer than Firehose takes' };
    const input = {
      DeliveryStreamName: this.#stream,
      Records: records.filter(({ length }) => length <= RECORD_BYTES_MAX).map((Data) => ({ Data })),
    };
    let reply;
    try {
      reply = await this.#put(input);
    } catch (error) {
      const why = `${error.name}: ${error.message}`;
      return passes(error) ? { retry: fitting, rejected: tooLong, why } : { rejected: lines.length, why };
    }
    let why = tooLong ? 'a record is longer than Firehose takes' : '';
    const retry = fitting.filter((_, index) => {
      const entry = reply.FailedPutCount ? reply.RequestResponses[index] : undefined;
      if (!entry?.ErrorCode) return false;
      why = `${entry.ErrorCode}: ${entry.ErrorMessage ?? ''}`;
      return true;
    });
    return { retry, rejected: tooLong, why };
  }

  #put(input) {
    if (typeof this.#client.putRecordBatch === 'function') return this.#client.putRecordBatch(input);
    const { PutRecordBatchCommand } = require('@aws-sdk/client-firehose');
    return this.#client.send(new PutRecordBatchCommand(input));
  }
}

/** Whether another attempt may go through; without an answer it was the network, or credentials to come. */
function passes(error) {
  const status = error.$metadata?.httpStatusCode;
  if (error.code === 'MODULE_NOT_FOUND') return false;
  return status === undefined || status >= 500 || status === 429 || PASSING.has(error.name);
}

module.exports = { FirehoseSender };
