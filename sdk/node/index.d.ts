import type { LDEvaluationDetail, integrations } from '@launchdarkly/node-server-sdk';

/** What became of one attempt to send a batch. */
export interface Outcome {
  /** Lines to send again: nothing says that they arrived. */
  retry?: string[];
  /** How many lines were refused for good. */
  rejected?: number;
  /** Why, for the log. */
  why?: string;
  /** Milliseconds to wait before the next attempt, if the server said so. */
  wait?: number;
}

/** Where batches go. */
export interface Sender {
  /** Tries once. `key` is the same for every attempt at a batch. */
  send(lines: string[], key: string): Promise<Outcome>;
}

export interface HttpSenderOptions {
  /** Lakeward's address, for instance `http://127.0.0.1:7171`. */
  url: string;
  /** The stream. Default `launchdarkly-experiments-stream`. */
  stream?: string;
  /** One of Lakeward's `auth.bearer_tokens`. */
  token?: string;
  /** Whether to send gzip. Default false. */
  compress?: boolean;
  /** Milliseconds to wait for an answer. Default 10,000. */
  timeout?: number;
  /** An agent of `node:http` or `node:https`, for instance for a proxy or a private authority. */
  agent?: import('node:http').Agent;
}

/** To Lakeward's HTTP door, exactly once: a batch keeps its idempotency key over all attempts. */
export class HttpSender implements Sender {
  constructor(options: HttpSenderOptions);
  send(lines: string[], key: string): Promise<Outcome>;
}

export interface FirehoseSenderOptions {
  /** A `FirehoseClient` or `Firehose` of `@aws-sdk/client-firehose`. */
  client: { send(command: any): Promise<any> } | { putRecordBatch(input: any): Promise<any> };
  /** The delivery stream's name. Default `launchdarkly-experiments-stream`. */
  stream?: string;
}

/**
 * To Firehose, or to anything that speaks its API (Lakeward does). Only what failed is put again. Firehose knows no
 * idempotency key: after a lost reply an event can arrive twice. `HttpSender` has no such gap.
 */
export class FirehoseSender implements Sender {
  constructor(options: FirehoseSenderOptions);
  send(lines: string[], key: string): Promise<Outcome>;
}

export interface LakewardHookOptions {
  /** Where events go. */
  sender: Sender;
  /** Whether evaluations outside of experiments are left out; if not, events also say `in_experiment`. Default true. */
  inExperimentOnly?: boolean;
  /** Attribute references that no event has, beside those that a context itself calls private. */
  privateAttributes?: string[];
  /** Whether events have contexts' kinds and keys only. Default false. */
  allAttributesPrivate?: boolean;
  /** How many events wait at most; further ones are dropped and counted. Default 10,000. */
  capacity?: number;
  /** How many bytes of them wait at most. Default 64 MiB. */
  capacityBytes?: number;
  /** How many are sent at once, at most 500, which is the default. */
  batchRecords?: number;
  /** How many bytes are sent at once, at most 4 MiB, which is the default. */
  batchBytes?: number;
  /** Milliseconds after which fewer are sent. Default 1,000. */
  flushInterval?: number;
  /** Milliseconds that the process's end waits for what is left. Default 5,000. */
  exitTimeout?: number;
  /** Where warnings go, each kind once. Default the console. */
  logger?: { warn(message: string): void };
}

/** Everything since the start. */
export interface Counters {
  /** Evaluations that were to be sent. */
  recorded: number;
  /** Of these, those that the other side has. */
  sent: number;
  /** Of these, those that nobody will send any more, for whatever reason. */
  dropped: number;
  /** Of these, those that are on their way. */
  pending: number;
  /** Of the dropped: the queue was full, by events or by bytes. */
  droppedFull: number;
  /** Of the dropped: the other side refused them for good. */
  droppedRejected: number;
  /** Of the dropped: the time to send them was over, or they came after it. */
  droppedClosed: number;
  /** Of the dropped: they could not be written as JSON. */
  droppedInvalid: number;
  /** Batches that were tried again. */
  retries: number;
}

/** Sends what flags were evaluated to. Never waits, never throws. */
export class LakewardHook implements integrations.Hook {
  constructor(options: LakewardHookOptions);
  getMetadata(): integrations.HookMetadata;
  afterEvaluation(
    hookContext: integrations.EvaluationSeriesContext,
    data: integrations.EvaluationSeriesData,
    detail: LDEvaluationDetail,
  ): integrations.EvaluationSeriesData;
  /** How many events nobody will send any more. */
  readonly dropped: number;
  /** What became of all events. */
  readonly counters: Counters;
  /** Waits until everything recorded so far is sent or dropped; resolves to whether it is. Default for ever. */
  flush(timeout?: number): Promise<boolean>;
  /** Sends what is left and stops; later evaluations count as dropped. Default `exitTimeout`. */
  close(timeout?: number): Promise<boolean>;
}
