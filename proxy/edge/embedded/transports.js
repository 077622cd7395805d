// How an answer and what is sent later come: over fetch and server-sent events, or over a WebSocket.

const SILENCE_MS = 45_000; // the server says something every 15 s: three missed, and the connection is dead
const PING_MS = 20_000;
const LONGEST_PAUSE_MS = 30_000;
const MAX_LOST = 6; // connections in a row that brought nothing
const MAX_UNHEARD = 3; // of a message that no answer began to: it may be the address, or the page's policy
const MAX_FRAMES = 10_000; // of an answer, that wait to be shown
const HOPELESS = new Set([
  'origin_denied', 'host_denied', 'blocked', 'forbidden_scope', 'auth_failed', 'auth_required', 'session_invalid',
]);

const usesSocket = option('transport') === 'ws';

/** Resolves after a while that doubles with each time, a little different for everybody. */
function pause(times, signal) {
  const most = Math.min(LONGEST_PAUSE_MS, 500 * 2 ** times);
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, most * (0.5 + Math.random() / 2));
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** Aborts `controller` when nothing was heard for too long; the function that it returns says that something was. */
function watchSilence(controller) {
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => controller.abort(), SILENCE_MS);
  };
  alive();
  return [alive, () => clearTimeout(timer)];
}

/** Yields {name, fields, id} of one answer, until it or the connection ends. */
async function* overHttp(exchange, signal, alive) {
  const headers = { Accept: 'text/event-stream' };
  const resumed = { ...headers, ...(exchange.last && { 'Last-Event-ID': exchange.last }) };
  const response = exchange.id
    ? await authorised('GET', `v1/answers/${exchange.id}`, { signal, headers: resumed }, false)
    : await authorised('POST', 'v1/messages', {
        signal,
        onProof: exchange.onProof,
        fields: { message: exchange.question },
        headers: { ...headers, 'Idempotency-Key': exchange.key },
      });
  if (response.status === 204) yield { name: 'done', fields: {} }; // nothing is left to come
  else for await (const { name, data, id } of readEvents(response.body, alive)) yield { name, id, fields: JSON.parse(data) };
}

/** Brings a message with its files, by HTTP whatever the transport. Returns the answer's id: it is joined like any other. */
async function deliver(exchange, signal, alive) {
  if (!exchange.files) throw new Failure('files_gone', 'The page was left before the files had arrived.');
  const form = new FormData();
  form.append('message', exchange.question);
  for (const file of exchange.files) form.append('files', file);
  const onProgress = (share) => (alive(), exchange.onProgress(share));
  const headers = { Accept: 'application/json', Prefer: 'respond-async', 'Idempotency-Key': exchange.key };
  const request = { signal, form, headers, onProgress, onProof: exchange.onProof };
  return (await (await authorised('POST', 'v1/messages', request)).json()).answer_id;
}

let socket = null; // the one at hand, open or not
let hear = () => {}; // takes frames of the answer at hand
let hearPush = () => {};

/** An open socket. Its ticket is good once, so each connection has its own. */
async function connected(mayOpen) {
  if (socket?.readyState === WebSocket.OPEN) return socket;
  const { ticket } = await (await authorised('POST', 'v1/session/ticket', {}, mayOpen)).json();
  const address = new URL('v1/ws', base);
  address.protocol = address.protocol.replace('http', 'ws');
  address.searchParams.set('ticket', ticket);
  if (session.get()?.pushed) address.searchParams.set('after', session.get().pushed);
  const line = new WebSocket(address, 'sidegate.v1');
  line.addEventListener('message', ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.type === 'push') hearPush(frame.id, frame);
    else hear(frame);
  });
  await new Promise((resolve, reject) => {
    const giveUp = setTimeout(() => line.close(), OPENING_MS);
    line.addEventListener('open', resolve);
    line.addEventListener('close', () => reject(new TypeError('no WebSocket'))); // as fetch's network errors
    line.addEventListener('open', () => clearTimeout(giveUp));
  });
  if (socket?.readyState === WebSocket.OPEN) socket.close(); // somebody else was faster
  socket = line;
  return line;
}

const numberOf = (id) => Number(id.slice(id.lastIndexOf(':') + 1));

/** As overHttp. A message that was sent and not heard of again is not sent twice: the workflow might run twice. */
async function* overSocket(exchange, signal, alive) {
  if (exchange.sent && !exchange.id) throw new Failure('lost', 'The connection was lost.');
  const line = await connected(true);
  signal.throwIfAborted();
  const frames = [];
  let wake = () => {};
  const take = (frame) => {
    if (frames.push(frame) > MAX_FRAMES) line.close();
    wake();
  };
  const over = () => take({ type: 'over' });
  const say = (frame) => line.send(JSON.stringify(frame));
  const message = { type: 'message', id: exchange.key, message: exchange.question };
  const ping = setInterval(() => line.readyState === WebSocket.OPEN && say({ type: 'ping' }), PING_MS);
  hear = take;
  line.addEventListener('close', over);
  signal.addEventListener('abort', over);
  try {
    if (exchange.id) say({ type: 'resume', answer_id: exchange.id, ...(exchange.last && { after: numberOf(exchange.last) }) });
    else say(message);
    exchange.sent = true;
    for (;;) {
      while (!frames.length) await new Promise((resolve) => (wake = resolve)); // a frame, the end, or the visitor's stop
      const { type, id, reply_to: mine = exchange.key, ...fields } = frames.shift();
      signal.throwIfAborted();
      alive();
      if (type === 'over') return;
      if (mine !== exchange.key || (exchange.id && fields.answer_id && fields.answer_id !== exchange.id)) continue;
      if (type === 'challenge' && !message.challenge) {
        exchange.onProof();
        message.challenge = await solve(fields.challenge, signal);
        say(message);
      } else yield { name: type === 'challenge' ? 'error' : type, fields, id };
    }
  } finally {
    clearInterval(ping);
    hear = () => {};
    line.removeEventListener('close', over);
    signal.removeEventListener('abort', over);
  }
}

/**
 * Yields the fields of `start` and `delta` events of an answer, each once, through as many connections as it takes;
 * returns at its `done`. Raises Failure, or what `signal` was aborted with. `onLost` is told when a connection was.
 */
async function* answerTo(exchange, signal, onLost) {
  for (let lost = 0; ; lost += 1) {
    const silence = new AbortController();
    const [alive, stopWatching] = watchSilence(silence);
    const either = AbortSignal.any([signal, silence.signal]);
    try {
      if (exchange.names && !exchange.id) {
        exchange.id = await deliver(exchange, either, alive);
        yield { answer_id: exchange.id };
      }
      for await (const { name, fields, id } of (usesSocket ? overSocket : overHttp)(exchange, either, alive)) {
        if (id) exchange.last = id;
        if (name === 'error') throw failureOf(fields);
        if (name === 'start') exchange.id = fields.answer_id;
        if (name === 'start' || name === 'delta') {
          lost = 0;
          yield fields;
        }
        if (name === 'done') return;
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const isOver = error instanceof Failure && error.code !== 'draining';
      if (isOver) throw error;
      if (error.code === 'draining' && lost) exchange.id = null; // not finished in time: its key begins it anew
    } finally {
      stopWatching();
    }
    if (lost >= (exchange.id ? MAX_LOST : MAX_UNHEARD)) throw new Failure('lost', 'The connection was lost.');
    onLost();
    await pause(lost, signal);
    signal.throwIfAborted();
  }
}

/** Ends an answer at the server, which would go on for a while without us. */
function stopAnswer({ id }) {
  if (!id) return;
  if (usesSocket && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: 'stop', answer_id: id }));
  else authorised('DELETE', `v1/answers/${id}`, {}, false).catch(() => {}); // it ends by itself
}

async function pushesOnce(alive, signal) {
  if (usesSocket) {
    const line = await connected(false);
    await new Promise((resolve) => line.addEventListener('close', resolve)); // the server or a lost connection ends it
    return;
  }
  const { pushed } = session.get() ?? {};
  const headers = { Accept: 'text/event-stream', ...(pushed && { 'Last-Event-ID': pushed }) };
  const response = await authorised('GET', 'v1/events', { signal, headers }, false);
  for await (const { name, data, id } of readEvents(response.body, alive)) {
    if (name === 'push') hearPush(id, JSON.parse(data));
    if (name === 'error') throw failureOf(JSON.parse(data));
  }
}

let isListening = false;

/** What is sent later goes to `show(fields)`, each push once. */
function takePushes(show) {
  hearPush = (id, fields) => {
    if (session.get()) session.set({ ...session.get(), pushed: id });
    show(fields);
  };
}

/** Holds a connection for what is sent later, as long as there is a session. */
async function listen() {
  if (isListening || !session.get()) return;
  isListening = true;
  let tries = 0;
  while (session.get()) {
    const began = Date.now();
    const silence = new AbortController();
    const [alive, stopWatching] = usesSocket ? [() => {}, () => {}] : watchSilence(silence);
    try {
      await pushesOnce(alive, silence.signal);
    } catch (error) {
      if (HOPELESS.has(error.code)) break;
    } finally {
      stopWatching();
    }
    tries = Date.now() - began > SILENCE_MS ? 0 : tries + 1; // what held for a while is worth coming back to at once
    await pause(tries);
  }
  isListening = false;
}
