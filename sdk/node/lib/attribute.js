'use strict';

// Attribute references, and contexts without what is private.
//
// Source: the SDK's own events (`ContextFilter`): a private attribute is left out and named in
// `_meta.redactedAttributes`, in order. `key`, `kind` and `anonymous` cannot be private.

const PROTECTED = new Set(['key', 'kind', '_meta', 'anonymous']);

/** Reads `name`, or `/a/b` where `~1` is a slash and `~0` a tilde; `undefined` for what is no reference. */
function parse(text) {
  if (typeof text !== 'string' || text === '' || text === '/') return undefined;
  if (!text.startsWith('/')) return PROTECTED.has(text) ? undefined : { text, path: [text] };
  const parts = text.slice(1).split('/');
  if (parts.some((part) => part === '' || /~([^01]|$)/.test(part))) return undefined;
  const path = parts.map((part) => part.replace(/~1/g, '/').replace(/~0/g, '~'));
  const isProtected = path[0] === '_meta' || (path.length === 1 && PROTECTED.has(path[0]));
  return isProtected ? undefined : { text, path };
}

/** The reference that means the attribute of exactly this name. */
function literal(name) {
  const text = name.startsWith('/') ? `/${name.replace(/~/g, '~0').replace(/\//g, '~1')}` : name;
  return { text, path: [name] };
}

function parseAll(texts) {
  return Array.isArray(texts) ? texts.map(parse).filter((reference) => reference) : [];
}

/** A copy of one context of one kind without what is private. `own` is what the context itself calls private. */
function redacted(context, own, settings) {
  const { _meta: meta, ...rest } = context;
  const references = settings.allPrivate
    ? Object.keys(rest).filter((name) => !PROTECTED.has(name)).map(literal)
    : [...settings.references, ...own];
  const leftOut = [];
  const out = references.length ? without(rest, references, 0, leftOut) : rest;
  const kept = { ...(meta && typeof meta === 'object' ? meta : {}) };
  delete kept.privateAttributes;
  if (leftOut.length) kept.redactedAttributes = leftOut.sort();
  if (Object.keys(kept).length) out._meta = kept;
  return out;
}

/** `value` without what the references name; all of them lead here. */
function without(value, references, depth, leftOut) {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
  const kept = {};
  for (const [key, item] of Object.entries(value)) {
    const here = references.filter(({ path }) => path[depth] === key);
    const whole = here.find(({ path }) => path.length === depth + 1);
    if (whole) {
      leftOut.push(whole.text);
    } else {
      define(kept, key, here.length ? without(item, here, depth + 1, leftOut) : item);
    }
  }
  return kept;
}

/** Also for a key that is called `__proto__`. */
function define(object, key, value) {
  Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true });
}

module.exports = { define, literal, parseAll, redacted };
