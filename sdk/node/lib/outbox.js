'use strict';

// A bounded queue and what empties it, a batch at a time.

const { randomUUID } = require('node:crypto');

/** Milliseconds before the first retry, doubled for each further one up to the last. */
const PAUSE_MIN = 250;
const PAUSE_MAX = 30_000;
/** The longest wait that a server may ask for. */
const ASKED_MAX = 300_000;
/** The longest that a timer of Node can be. */
const TIMEOUT_MAX = 2 ** 31 - 1;

class Outbox {
  constructor(sender, { capacity, capacityBytes, batchRecords, batchBytes, flushInterval, exitTimeout, logger, pauseMin }) {
    this.sender = sender;
    this.capacity = Math.max(1, capacity);
    this.capacityBytes = capacityBytes;
    this.batchRecords = Math.max(1, batchRecords);
    this.batchBytes = batchBytes;
    this.flushInterval = flushInterval;
    this.exitTimeout = exitTimeout;
    this.logger = logger;
    this.pauseMin = pauseMin ?? PAUSE_MIN;
    // Lines and their bytes.
    this.queue = [];
    this.queueBytes = 0;
    this.inFlight = 0;
    this.taken = 0;
    this.settled = 0;
    this.counts = { recorded: 0, sent: 0, full: 0, rejected: 0, closed: 0, invalid: 0, retries: 0 };
    this.timer = undefined;
    this.isPumping = false;
    this.isClosing = false;
    this.isAbandoned = false;
    this.waiters = new Set();
    this.warned = new Set();
    this.wakePause = undefined;
    live.add(this);
  }

  /** Takes a line, or counts it as dropped. */
  put(line) {
    this.counts.recorded += 1;
    const bytes = Buffer.byteLength(line);
    if (this.isClosing) {
      this.counts.closed += 1;
    } else if (this.queue.length >= this.capacity || this.queueBytes + bytes > this.capacityBytes) {
      this.counts.full += 1;
    } else {
      this.queue.push({ line, bytes });
      this.queueBytes += bytes;
      this.taken += 1;
      this.schedule();
    }
  }

  /** Counts what could not be written. */
  invalid(error) {
    this.counts.recorded += 1;
    this.counts.invalid += 1;
    this.warn('invalid', `an event could not be written as JSON: ${error}`);
  }

  schedule() {
    if (this.isPumping || !this.queue.length) return;
    const isEnough = this.queue.length >= this.batchRecords || this.queueBytes >= this.batchBytes;
    if (isEnough || this.waiters.size || this.isClosing) {
      this.pump();
    } else if (this.timer === undefined) {
      // Nothing of ours keeps the process alive; its end is seen to below.
      this.timer = setTimeout(() => this.pump(), this.flushInterval).unref();
    }
  }

  async pump() {
    if (this.isPumping) return;
    this.isPumping = true;
    clearTimeout(this.timer);
    this.timer = undefined;
    // The caller's turn of the event loop ends first.
    await new Promise((resolve) => setImmediate(resolve));
    // What comes meanwhile waits for more of its kind.
    let left = this.queue.length;
    while (left > 0 && !this.isAbandoned) {
      const batch = this.take();
      left -= batch.length;
      await this.deliver(batch);
    }
    this.isPumping = false;
    this.schedule();
  }

  /** The next batch. */
  take() {
    let bytes = 0;
    let count = 0;
    while (count < this.queue.length && count < this.batchRecords) {
      if (count && bytes + this.queue[count].bytes > this.batchBytes) break;
      bytes += this.queue[count].bytes;
      count += 1;
    }
    const lines = this.queue.splice(0, count).map(({ line }) => line);
    this.queueBytes -= bytes;
    this.inFlight = lines.length;
    return lines;
  }

  /** Sends a batch, again and again until it is there, refused or late. */
  async deliver(batch) {
    const key = randomUUID();
    let lines = batch;
    let pause = this.pauseMin;
    while (!this.isAbandoned) {
      let outcome;
      try {
        outcome = await this.sender.send(lines, key);
      } catch (error) {
        outcome = { retry: lines, why: String(error) };
      }
      // A sender of the caller's own may return nothing.
      outcome ??= { retry: lines, why: 'the sender said nothing of it' };
      const { retry = [], rejected = 0, why = '', wait = 0 } = outcome;
      this.settle({ sent: lines.length - retry.length - rejected, rejected });
      if (rejected) this.warn('rejected', `${rejected} events were refused for good: ${why}`);
      if (!retry.length) return;
      lines = retry;
      this.warn('retry', `${lines.length} events are sent again: ${why}`);
      this.counts.retries += 1;
      await this.pause(Math.max(pause * (0.5 + Math.random() / 2), Math.min(wait, ASKED_MAX)));
      pause = Math.min(pause * 2, PAUSE_MAX);
    }
  }

  /** Waits; somebody who waits for us cuts it short. */
  pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds).unref();
      this.wakePause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  settle({ sent = 0, rejected = 0 }) {
    if (this.isAbandoned) return;
    this.counts.sent += sent;
    this.counts.rejected += rejected;
    this.inFlight -= sent + rejected;
    this.settled += sent + rejected;
    this.notify();
  }

  notify() {
    for (const waiter of [...this.waiters]) waiter();
  }

  /** Resolves to whether all that was put before is sent or dropped, at the latest after `timeout`. */
  flush(timeout = TIMEOUT_MAX) {
    const target = this.taken;
    if (this.settled >= target) return Promise.resolve(true);
    return new Promise((resolve) => {
      // It keeps the process alive, which nothing else of ours does.
      const timer = setTimeout(() => end(false), Math.min(timeout, TIMEOUT_MAX));
      const end = (isDone) => {
        this.waiters.delete(check);
        clearTimeout(timer);
        resolve(isDone);
      };
      const check = () => {
        if (this.settled >= target) end(true);
      };
      this.waiters.add(check);
      this.wakePause?.();
      this.schedule();
    });
  }

  /** Sends what is left within `timeout`, then drops it. */
  async close(timeout = this.exitTimeout) {
    this.isClosing = true;
    const isDone = await this.flush(timeout);
    const left = this.queue.length + this.inFlight;
    if (left) {
      // Perhaps the last batch arrived: nobody knows, so it counts as dropped.
      this.isAbandoned = true;
      this.counts.closed += left;
      this.settled += left;
      this.queue = [];
      this.queueBytes = 0;
      this.inFlight = 0;
      this.wakePause?.();
      this.notify();
      this.warn('closed', `${left} events were not sent before the end`);
    }
    live.delete(this);
    return isDone && !left;
  }

  counters() {
    const { recorded, sent, full, rejected, closed, invalid, retries } = this.counts;
    return {
      recorded,
      sent,
      dropped: full + rejected + closed + invalid,
      pending: this.queue.length + this.inFlight,
      droppedFull: full,
      droppedRejected: rejected,
      droppedClosed: closed,
      droppedInvalid: invalid,
      retries,
    };
  }

  /** Says it once; the counters say how often. */
  warn(what, message) {
    if (this.warned.has(what)) return;
    this.warned.add(what);
    try {
      this.logger.warn(`lakeward: ${message} (said once; see the counters)`);
    } catch {
      // A logger that throws is not ours to mend.
    }
  }
}

/** Those that are open: few, and they live as long as the process. */
const live = new Set();

process.on('beforeExit', () => {
  for (const outbox of [...live]) {
    if (outbox.queue.length + outbox.inFlight) outbox.close();
  }
});

module.exports = { Outbox };
