'use strict';

const { Schema, isInExperiment } = require('./event');
const { Outbox } = require('./outbox');

/** Firehose's limits for one request, which Lakeward takes too. */
const BATCH_RECORDS_MAX = 500;
const BATCH_BYTES_MAX = 4 << 20;

class LakewardHook {
  #inExperimentOnly;
  #schema;
  #outbox;

  constructor({
    sender,
    inExperimentOnly = true,
    privateAttributes = [],
    allAttributesPrivate = false,
    capacity = 10_000,
    capacityBytes = 64 << 20,
    batchRecords = BATCH_RECORDS_MAX,
    batchBytes = BATCH_BYTES_MAX,
    flushInterval = 1_000,
    exitTimeout = 5_000,
    logger = console,
    pauseMin,
  }) {
    if (typeof sender?.send !== 'function') throw new TypeError('`sender` is an HttpSender or a FirehoseSender');
    this.#inExperimentOnly = inExperimentOnly;
    this.#schema = new Schema({ inExperimentOnly, privateAttributes, allAttributesPrivate });
    this.#outbox = new Outbox(sender, {
      capacity,
      capacityBytes,
      batchRecords: Math.min(batchRecords, BATCH_RECORDS_MAX),
      batchBytes: Math.min(batchBytes, BATCH_BYTES_MAX),
      flushInterval,
      exitTimeout,
      logger,
      pauseMin,
    });
  }

  getMetadata() {
    return { name: 'lakeward-launchdarkly' };
  }

  afterEvaluation(hookContext, data, detail) {
    try {
      if (!this.#inExperimentOnly || isInExperiment(detail)) {
        // Written now: contexts and values are the caller's, who may change them.
        this.#outbox.put(this.#schema.line(hookContext.flagKey, hookContext.context, detail));
      }
    } catch (error) {
      this.#outbox.invalid(error);
    }
    return data;
  }

  get dropped() {
    return this.#outbox.counters().dropped;
  }

  get counters() {
    return this.#outbox.counters();
  }

  flush(timeout) {
    return this.#outbox.flush(timeout);
  }

  close(timeout) {
    return this.#outbox.close(timeout);
  }
}

module.exports = { LakewardHook };
