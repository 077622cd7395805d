// What every page speaks with Sidegate (docs/protocol.md): events of a stream, problems, puzzles. The chat page imports it,
// and widget.js contains it.

const MAX_EVENT_CHARS = 1_000_000; // one event that doesn't fit in here is not ours
const TRIED_AT_ONCE = 500; // numbers, when a challenge is solved

/** An ending that the visitor is told about. `retryAfter` is in seconds, 0 for at once. */
export class Failure extends Error {
  constructor(code, message, facts = {}) {
    super(message);
    Object.assign(this, { code, retryAfter: 0, reference: '', state: 'error', ...facts });
  }
}

/** Returns a function that takes text in arbitrary cuts and returns the events that are complete: [{name, data, id?}]. */
export function eventParser() {
  let rest = '';
  let name = '';
  let id = '';
  let data = [];

  function takeLine(line, events) {
    if (line === '') {
      if (data.length) events.push({ name: name || 'message', data: data.join('\n'), ...(id && { id }) });
      name = '';
      data = [];
      return;
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === 'event') name = value;
    else if (field === 'id') id = value; // it stays until there is another one
    else if (field === 'data') data.push(value); // a comment's field is empty
  }

  return function feed(text) {
    const events = [];
    // A CR at the very end may be half of a CRLF: it stays until more arrives.
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) takeLine(line, events);
    const held = data.reduce((sum, line) => sum + line.length, rest.length);
    if (held > MAX_EVENT_CHARS) throw new Failure('too_long', 'The answer could not be read.');
    return events;
  };
}

/** Yields the events of a response body. `alive` is called for every read, comments included. */
export async function* readEvents(body, alive) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const feed = eventParser();
  try {
    for (;;) {
      const { value, done } = await reader.read(); // ended by the server, the visitor, or SILENCE_MS
      if (done) return;
      alive();
      yield* feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {}); // already over, most of the time
  }
}

/** What a problem document (RFC 9457) or an `error` event says, as a Failure. */
export function failureOf({ code, message, detail, title, request_id: reference, retry_after: wait }) {
  const words = message || detail || title || 'The assistant could not be reached.';
  return new Failure(code, words, { reference, retryAfter: Number(wait) > 0 ? Number(wait) : 0 });
}

export async function refusal(response) {
  const problem = await response.json().catch(() => null); // a proxy in between speaks its own language
  return failureOf({ retry_after: response.headers.get('Retry-After'), ...problem });
}

/** crypto.randomUUID exists on secure origins only, and a first look is often plain http. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Finds the number behind an ALTCHA challenge by trying, which takes a browser a second or so and nobody's click.
 * Resolves to what the server wants to see in X-Challenge-Solution.
 */
export async function solve({ algorithm, challenge, maxnumber, salt, signature }, signal) {
  if (!crypto.subtle) throw new Failure('challenge_required', 'This page needs https to prove that you are human.');
  const text = new TextEncoder();
  const wanted = challenge.toLowerCase();
  const hash = async (number) => {
    const digest = new Uint8Array(await crypto.subtle.digest(algorithm, text.encode(salt + number)));
    return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  };
  for (let first = 0; first <= maxnumber; first += TRIED_AT_ONCE) {
    signal?.throwIfAborted();
    const count = Math.min(TRIED_AT_ONCE, maxnumber - first + 1);
    const hashes = await Promise.all(Array.from({ length: count }, (_, at) => hash(first + at)));
    const at = hashes.indexOf(wanted);
    if (at >= 0) return btoa(JSON.stringify({ algorithm, challenge, number: first + at, salt, signature }));
  }
  throw new Failure('challenge_required', 'The puzzle that proves that you are human has no solution.');
}
