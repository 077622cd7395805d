// The chat page: one conversation over fetch and server-sent events (docs/protocol.md).
// The conversation lives in memory only; the session's tokens live in sessionStorage. Whatever the server says becomes
// text nodes, never markup: nothing here parses HTML.

import { deepest, element, textRenderer } from './markdown.js';
import { Failure, failureOf, newKey, readEvents, refusal, solve } from './protocol.js';

const MAX_CHARS = 2000; // the server's default `content.max_chars`; it has the last word
const COUNT_FROM = 1600; // show the counter from here on
const MAX_ANSWER_CHARS = 1_000_000; // an answer longer than this is broken off
const SILENCE_MS = 45_000; // the server comments every 15 s: three missed, and the connection is dead
const AWAY_MS = 1_000; // when the server sent us away, come back after so long
const MAX_AWAY = 5; // and so often for one answer
const PATIENCE_MS = 10_000; // say that it takes longer
const STORED = 'sidegate.session';
const PENDING = 'sidegate.pending'; // the question that is being answered, so that a reload joins its answer

// Why a fetch was aborted.
const STOPPED = 'stopped';
const SILENT = 'silent';
const DROPPED = 'dropped';

// Sending the same words again can't help with these; changing them can.
const EDITABLE = new Set(['content_blocked', 'too_large', 'bad_request', 'unsupported_media', 'upload_rejected']);
// Nothing that a visitor does helps with these.
const HOPELESS = new Set(['origin_denied', 'host_denied', 'blocked', 'forbidden_scope']);

let session = recall(STORED);

function recall(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null; // storage is switched off, or holds something else: begin anew
  }
}

function keep(name, value) {
  try {
    if (value) sessionStorage.setItem(name, JSON.stringify(value));
    else sessionStorage.removeItem(name);
  } catch {
    // Storage is switched off: memory will do until the page is closed.
  }
}

function store(value) {
  session = value;
  keep(STORED, value);
}

function keepGrant(grant) {
  const now = Date.now();
  store({
    access: grant.access_token,
    accessEnds: now + grant.expires_in * 1000,
    refresh: grant.refresh_token,
    refreshEnds: now + grant.refresh_expires_in * 1000,
  });
  return grant.access_token;
}

function post(path, signal, fields, headers = {}) {
  const json = fields ? { 'Content-Type': 'application/json' } : {};
  const body = fields ? JSON.stringify(fields) : undefined;
  const options = { method: 'POST', cache: 'no-store', redirect: 'error', signal, body };
  return fetch(path, { ...options, headers: { ...json, ...headers } });
}

/** A token that is good for at least ten more seconds: the one at hand, a refreshed one, or a new session's. */
async function accessToken(signal) {
  const soon = Date.now() + 10_000;
  if (session && soon < session.accessEnds) return session.access;
  if (session && soon < session.refreshEnds) {
    const response = await post('/v1/session/refresh', signal, { refresh_token: session.refresh });
    if (response.ok) return keepGrant(await response.json());
    if (response.status !== 401) throw await refusal(response);
    store(null);
  }
  const response = await post('/v1/session', signal);
  if (!response.ok) throw await refusal(response);
  return keepGrant(await response.json());
}

/**
 * Sends a message; resolves to the body of the stream. A session that has ended is replaced once.
 * While no answer came back the key stays, so that the server can tell a message that it has already seen.
 */
async function send(exchange, signal) {
  let proof = {};
  exchange.key ??= newKey();
  keep(PENDING, { question: exchange.question, key: exchange.key });
  for (let tries = 1; ; tries += 1) {
    const token = await accessToken(signal);
    const own = { Authorization: `Bearer ${token}`, 'Idempotency-Key': exchange.key };
    const headers = { Accept: 'text/event-stream', ...own, ...proof };
    const response = await post('/v1/messages', signal, { message: exchange.question }, headers);
    if (response.status === 401 && tries === 1) {
      response.body?.cancel().catch(() => {});
      store(null);
      continue;
    }
    if (response.status === 428 && !('X-Challenge-Solution' in proof)) {
      const { challenge, ...problem } = await response.json();
      if (!challenge) throw failureOf(problem);
      proof = { 'X-Challenge-Solution': await solve(challenge, signal) };
      continue;
    }
    if (!response.ok) throw await refusal(response);
    if (!response.headers.get('Content-Type')?.startsWith('text/event-stream')) {
      throw new Failure('not_a_stream', 'The assistant answered in a form that this page does not read.');
    }
    return response.body;
  }
}

const ids = ['log', 'empty', 'status', 'latest', 'offline', 'composer', 'message', 'send', 'stop', 'count', 'new'];
const ui = Object.fromEntries(ids.map((id) => [id, document.getElementById(id)]));
const touch = matchMedia('(pointer: coarse)');

let running = null; // the exchange that is being answered
let latest = null; // the last exchange, the only one that offers to try again

function announce(text) {
  ui.status.textContent = '';
  ui.status.textContent = text;
}

// Following: the view stays at the end while text arrives, unless the reader has scrolled away from it.
let following = true;
let lastTop = 0;

function noticeScroll() {
  const top = window.scrollY;
  if (document.documentElement.scrollHeight - window.innerHeight - top < 32) following = true;
  else if (top < lastTop) following = false; // growing text moves the end away too, but only a reader goes up
  lastTop = top;
  ui.latest.hidden = following;
}

function follow(anew = false) {
  following ||= anew;
  if (following && latest) window.scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' });
  ui.latest.hidden = following;
}

/** A finger's tap should not bring up the on-screen keyboard unasked. */
function focusMessage() {
  if (!touch.matches) ui.message.focus();
}

function showCount(count) {
  const number = (value) => value.toLocaleString('en');
  const isOver = count > MAX_CHARS;
  const wasOver = ui.message.getAttribute('aria-invalid') === 'true';
  ui.count.hidden = count < COUNT_FROM;
  ui.count.textContent = isOver
    ? `${number(count - MAX_CHARS)} over the limit`
    : `${number(count)} / ${number(MAX_CHARS)}`;
  ui.message.setAttribute('aria-invalid', String(isOver));
  if (isOver !== wasOver) announce(isOver ? 'The message is too long.' : 'The message fits again.');
}

function refreshComposer() {
  const count = Array.from(ui.message.value.trim()).length; // code points, as the server counts
  showCount(count);
  ui.send.disabled = count === 0 || count > MAX_CHARS;
  ui.message.style.height = 'auto';
  ui.message.style.height = `${ui.message.scrollHeight}px`;
  follow();
}

function write(text) {
  ui.message.value = text;
  refreshComposer();
}

function showRunning() {
  const hadFocus = document.activeElement === ui.stop || document.activeElement === ui.send;
  ui.stop.hidden = !running;
  ui.send.hidden = Boolean(running);
  ui.log.setAttribute('aria-busy', String(Boolean(running))); // read out when it's complete, not piece by piece
  if (hadFocus) focusMessage();
}

function submit(event) {
  event?.preventDefault();
  if (running || ui.send.disabled) return;
  const question = ui.message.value.trim();
  // Emptying the message disables the button, and some browsers take the focus from a disabled one.
  if (document.activeElement === ui.send) focusMessage();
  write('');
  ask(question);
}

function onMessageKey(event) {
  // Enter that confirms an input method's suggestion is not ours (Safari: keyCode 229).
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  submit();
}

function article(role, title, ...children) {
  return element('article', { 'data-role': role }, element('h2', { class: 'unseen' }, title), ...children);
}

/** An exchange: a question, and the answer as it grows. */
function newExchange(question) {
  const text = element('div', { class: 'text', dir: 'auto', 'data-role': 'text' });
  const after = element('div', { class: 'after' });
  const answer = article('answer', 'Answer', text, after);
  ui.log.append(article('question', 'You', element('p', { dir: 'auto' }, question)), answer);
  const caret = element('span', { class: 'caret', 'aria-hidden': 'true' });
  return { question, answer, text, after, caret, said: '', key: null, id: null, render: textRenderer(text), frame: 0 };
}

function paint(exchange) {
  cancelAnimationFrame(exchange.frame);
  exchange.frame = 0;
  exchange.caret.remove();
  exchange.render(exchange.said);
  if (exchange.said) deepest(exchange.text).append(exchange.caret);
  follow();
}

function addPiece(exchange, piece) {
  exchange.said += piece;
  if (exchange.said.length > MAX_ANSWER_CHARS) throw new Failure('too_long', 'The answer is too long for this page.');
  exchange.after.replaceChildren(); // no longer waiting
  exchange.frame ||= requestAnimationFrame(() => paint(exchange));
}

function showWaiting(exchange) {
  const note = element('p', { class: 'waiting' }, 'Thinking…');
  exchange.after.replaceChildren(note);
  setTimeout(() => {
    if (note.isConnected) note.textContent = 'Still working on it…';
  }, PATIENCE_MS);
}

function button(label, role, action) {
  const node = element('button', { type: 'button', class: 'quiet', 'data-role': role }, label);
  node.addEventListener('click', action);
  return node;
}

function retryLabel(left) {
  if (left <= 0) return 'Try again';
  return left < 120 ? `Try again in ${left} s` : `Try again in ${Math.ceil(left / 60)} min`;
}

/** Counts down to zero before it can be pressed. The ticking is not read out; its end is. */
function retryButton(exchange, seconds) {
  const node = button('Try again', 'retry', () => retry(exchange));
  const ready = Date.now() + seconds * 1000;
  function tick() {
    const left = Math.ceil((ready - Date.now()) / 1000);
    node.disabled = left > 0;
    node.textContent = retryLabel(left);
    if (left > 0) setTimeout(() => node.isConnected && tick(), 1000);
    else if (seconds > 0) announce('You can try again now.');
  }
  tick();
  return node;
}

function copyButton(exchange) {
  const node = button('Copy', 'copy', async () => {
    const copied = await copy(exchange);
    node.textContent = copied ? 'Copied' : 'Select the text to copy it';
    announce(node.textContent);
    setTimeout(() => (node.textContent = 'Copy'), 2500);
  });
  node.setAttribute('title', 'Copy this answer');
  return node;
}

/** The clipboard API exists on secure origins only; elsewhere the old command copies what is selected. */
async function copy(exchange) {
  try {
    await navigator.clipboard.writeText(exchange.said);
    return true;
  } catch {
    getSelection().selectAllChildren(exchange.text);
    const copied = document.execCommand('copy');
    if (copied) getSelection().removeAllRanges();
    return copied;
  }
}

function noticeNode(failure) {
  const node = element('div', { class: 'notice', 'data-role': 'notice' }, element('p', {}, failure.message));
  if (failure.reference) {
    node.append(element('p', { class: 'reference' }, 'Reference ', element('code', {}, failure.reference)));
  }
  return node;
}

function actionsNode(exchange, failure) {
  const node = element('div', { class: 'actions', 'aria-live': 'off' });
  if (exchange.said) node.append(copyButton(exchange));
  if (failure && EDITABLE.has(failure.code)) node.append(button('Edit message', 'edit', () => edit(exchange)));
  else if (failure && !HOPELESS.has(failure.code)) node.append(retryButton(exchange, failure.retryAfter));
  return node;
}

function finish(exchange, state, failure) {
  // The server goes on with an answer that was cut: to try again with its key joins it. Everything else is over.
  if (state !== 'cut' && failure?.code !== 'lost' && failure?.code !== 'draining') {
    exchange.key = null;
    keep(PENDING, null);
  }
  paint(exchange);
  exchange.caret.remove();
  exchange.answer.dataset.state = state;
  exchange.after.replaceChildren(...(failure ? [noticeNode(failure)] : []), actionsNode(exchange, failure));
  follow();
}

/** What the visitor is told when an answer ended by an exception. */
function failureFrom(error, reason, opened) {
  if (reason === STOPPED) return new Failure('stopped', 'You stopped this answer.', { state: 'stopped' });
  if (reason === SILENT) return new Failure('silent', 'The connection went silent.', { state: 'cut' });
  if (error instanceof Failure) return error;
  if (opened) return new Failure('cut', 'The connection was lost. The answer is incomplete.', { state: 'cut' });
  return new Failure('lost', navigator.onLine ? 'The assistant could not be reached.' : 'You are offline.');
}

/** Shows the events of one answer; returns at `done`, throws at everything else. */
async function showAnswer(exchange, body, alive) {
  for await (const { name, data } of readEvents(body, alive)) {
    if (name === 'start') exchange.id = JSON.parse(data).answer_id;
    else if (name === 'delta') addPiece(exchange, JSON.parse(data).text);
    else if (name === 'error') throw failureOf(JSON.parse(data));
    else if (name === 'done' && exchange.said.trim()) return;
    else if (name === 'done') throw new Failure('empty', 'The answer was empty.', { state: 'done' });
  }
  throw new Failure('cut', 'The answer ended too early and is incomplete.', { state: 'cut' });
}

async function run(exchange) {
  const abort = new AbortController();
  const mine = { exchange, abort };
  let silence;
  const alive = () => {
    clearTimeout(silence);
    silence = setTimeout(() => abort.abort(SILENT), SILENCE_MS);
  };
  running = mine;
  exchange.answer.dataset.state = 'streaming';
  showWaiting(exchange);
  showRunning();
  follow(true);
  alive();
  let body = null;
  let sentAway = null; // why, if the server did
  try {
    for (let away = 1; ; away += 1) {
      body = await send(exchange, abort.signal);
      if (sentAway) {
        exchange.said = '';
        exchange.render('');
      }
      try {
        await showAnswer(exchange, body, alive);
        break;
      } catch (error) {
        if (error.code !== 'draining' || away > MAX_AWAY) throw error;
        [sentAway, body] = [error, null];
      }
      // The server restarts and sent us away, while the answer goes on: with its key we get it, from the beginning.
      await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
    }
    finish(exchange, 'done');
  } catch (error) {
    const isGone = sentAway && !body && !(error instanceof Failure); // nobody took its place
    const failure = failureFrom(isGone ? sentAway : error, abort.signal.reason, body !== null);
    if (abort.signal.reason !== DROPPED) finish(exchange, failure.state, failure);
  } finally {
    clearTimeout(silence);
    if (running === mine) running = null;
    showRunning();
  }
}

function ask(question, key = null) {
  latest?.after.querySelectorAll('[data-role="retry"], [data-role="edit"]').forEach((node) => node.remove());
  ui.empty.hidden = true;
  latest = newExchange(question);
  latest.key = key;
  run(latest);
}

function retry(exchange) {
  if (running) return;
  focusMessage(); // the button that had the focus is about to go
  exchange.said = '';
  exchange.render('');
  run(exchange);
}

function edit(exchange) {
  if (!ui.message.value.trim()) write(exchange.question);
  ui.message.focus();
}

/** End the answer that is being given, here and at the server, which would go on for a while without us. */
function quit(reason) {
  if (!running) return;
  const { exchange, abort } = running;
  if (exchange.id && session) {
    const headers = { Authorization: `Bearer ${session.access}` };
    fetch(`/v1/answers/${exchange.id}`, { method: 'DELETE', headers, keepalive: true }).catch(() => {});
  }
  abort.abort(reason);
}

function startOver() {
  quit(DROPPED);
  keep(PENDING, null);
  running = null;
  if (latest) store(null); // a new session, so that the workflow's memory starts empty too
  latest = null;
  ui.log.replaceChildren();
  ui.empty.hidden = false;
  showRunning();
  follow(true);
  focusMessage();
  announce('New conversation.');
}

function showConnection() {
  if (ui.offline.hidden === navigator.onLine) return;
  ui.offline.hidden = navigator.onLine;
  announce(navigator.onLine ? 'You are online again.' : ui.offline.textContent);
  follow();
}

ui.composer.addEventListener('submit', submit);
ui.message.addEventListener('input', refreshComposer);
ui.message.addEventListener('keydown', onMessageKey);
ui.stop.addEventListener('click', () => quit(STOPPED));
ui.new.addEventListener('click', startOver);
ui.latest.addEventListener('click', () => follow(true));
ui.empty.addEventListener('click', (event) => {
  if (event.target.dataset.role !== 'suggestion') return;
  ask(event.target.textContent);
  focusMessage();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !event.isComposing) quit(STOPPED);
});
window.addEventListener('scroll', noticeScroll, { passive: true });
window.addEventListener('resize', () => follow());
window.addEventListener('online', showConnection);
window.addEventListener('offline', showConnection);
refreshComposer(); // the browser may have kept what was typed before a reload
showConnection();
focusMessage();
const pending = session && recall(PENDING);
if (pending) ask(pending.question, pending.key);
