'use strict';

// What an evaluation becomes: one line of JSON.

const { define, literal, parseAll, redacted } = require('./attribute');

/** What every event says of its maker; consumers filter by it. */
const METADATA = { source: 'launchdarkly-node-hook', version: '1.0' };
/** Deeper values than this are cut, so that one that holds itself ends. */
const DEPTH_MAX = 64;
const LEGACY = ['name', 'ip', 'firstName', 'lastName', 'email', 'avatar', 'country'];

class Schema {
  constructor({ inExperimentOnly, privateAttributes, allAttributesPrivate }) {
    this.inExperimentOnly = inExperimentOnly;
    this.settings = { references: parseAll(privateAttributes), allPrivate: allAttributesPrivate };
  }

  /** The event as a line with its newline. */
  line(flagKey, context, detail) {
    const event = this.event(flagKey, context, detail);
    let text;
    try {
      text = JSON.stringify(event);
    } catch {
      // What holds itself, or a BigInt.
      text = JSON.stringify(plain(event, 0));
    }
    return `${text}\n`;
  }

  /** The event with the fields that consumers know, in their order. */
  event(flagKey, context, detail) {
    const [evaluated, kinds] = this.context(context);
    const reason = detail.reason ?? {};
    const event = {
      timestamp: new Date().toISOString().replace('Z', '+00:00'),
      flag_key: flagKey,
      evaluation_context: evaluated,
      flag_value: detail.value ?? null,
      variation_index: detail.variationIndex ?? null,
      reason_kind: reason.kind ?? null,
      context_kinds: kinds,
      metadata: METADATA,
    };
    if (!this.inExperimentOnly) event.in_experiment = isInExperiment(detail);
    return event;
  }

  context(context) {
    if (context === null || typeof context !== 'object') return INVALID;
    if (context.kind === undefined || context.kind === null) return this.user(context);
    if (context.kind !== 'multi') {
      if (!isKind(context.kind) || !isKey(context.key)) return INVALID;
      return [this.single(context, context.kind), [context.kind]];
    }
    const kinds = Object.keys(context).filter((kind) => kind !== 'kind').sort();
    const isSound = kinds.every((kind) => isKind(kind) && isKey(context[kind]?.key));
    if (!kinds.length || !isSound) return INVALID;
    if (kinds.length === 1) return [this.single({ ...context[kinds[0]], kind: kinds[0] }, kinds[0]), kinds];
    const out = { key: '', kind: 'multi' };
    for (const kind of kinds) {
      const { kind: _, ...inner } = this.single(context[kind], kind);
      out[kind] = inner;
    }
    return [out, kinds];
  }

  single(context, kind) {
    const { key, ...rest } = redacted(context, parseAll(context._meta?.privateAttributes), this.settings);
    return { key, kind, ...rest };
  }

  /** A user of the SDK's early days: without a kind, its own attributes in `custom`. */
  user(user) {
    if (user.key === undefined || user.key === null) return INVALID;
    const context = { ...user.custom, key: String(user.key), kind: 'user' };
    delete context._meta;
    if (user.anonymous !== undefined && user.anonymous !== null) context.anonymous = Boolean(user.anonymous);
    for (const name of LEGACY) {
      if (user[name] !== undefined && user[name] !== null) context[name] = String(user[name]);
    }
    const names = Array.isArray(user.privateAttributeNames) ? user.privateAttributeNames : [];
    const own = names.filter((name) => typeof name === 'string').map(literal);
    const isOpen = ({ path }) => !['key', 'kind', 'anonymous'].includes(path[0]);
    const { key, kind, ...rest } = redacted(context, own.filter(isOpen), this.settings);
    return [{ key, kind, ...rest }, ['user']];
  }
}

const INVALID = [{ key: '', kind: '' }, []];

function isKind(kind) {
  return typeof kind === 'string' && kind !== 'kind' && kind !== 'multi' && /^[\w.-]+$/.test(kind);
}

function isKey(key) {
  return typeof key === 'string' && key !== '';
}

/** Whether the evaluation counts for an experiment. */
function isInExperiment(detail) {
  return detail.reason?.inExperiment === true;
}

/** `value` with what JSON has. */
function plain(value, depth) {
  if (typeof value === 'bigint') return String(value);
  if (value === null || typeof value !== 'object') return value;
  if (depth >= DEPTH_MAX) return null;
  if (typeof value.toJSON === 'function') return plain(value.toJSON(), depth + 1);
  if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1));
  const out = {};
  Object.entries(value).forEach(([key, item]) => define(out, key, plain(item, depth + 1)));
  return out;
}

module.exports = { Schema, isInExperiment };
