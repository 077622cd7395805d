// The chat page: one conversation over fetch and server-sent events (docs/protocol.md).
// The conversation lives in memory only; the session's tokens live in sessionStorage. Whatever the server says becomes
// text nodes, never markup: nothing here parses HTML.

const MAX_CHARS = 2000; // the server's default `content.max_chars`; it has the last word
const COUNT_FROM = 1600; // show the counter from here on
const MAX_ANSWER_CHARS = 1_000_000; // an answer longer than this is broken off
const MAX_EVENT_CHARS = 1_000_000; // one event that doesn't fit in here is not ours
const SILENCE_MS = 45_000; // the server comments every 15 s: three missed, and the connection is dead
const AWAY_MS = 1_000; // when the server sent us away, come back after so long
const TRIED_AT_ONCE = 500; // numbers, when a challenge is solved
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

/** An ending that the visitor is told about. `retryAfter` is in seconds, 0 for at once. */
class Failure extends Error {
  constructor(code, message, facts = {}) {
    super(message);
    Object.assign(this, { code, retryAfter: 0, reference: '', state: 'error', ...facts });
  }
}

/** Returns a function that takes text in arbitrary cuts and returns the events that are complete: [{name, data}]. */
export function eventParser() {
  let rest = '';
  let name = '';
  let data = [];

  function takeLine(line, events) {
    if (line === '') {
      if (data.length) events.push({ name: name || 'message', data: data.join('\n') });
      name = '';
      data = [];
      return;
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === 'event') name = value;
    else if (field === 'data') data.push(value); // a comment's field is empty; ids are of no use without resuming
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
async function* readEvents(body, alive) {
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

/** What a problem document (RFC 9457) or an `error` event says, as a Failure. */
function failureOf({ code, message, detail, title, request_id: reference, retry_after: wait }) {
  const words = message || detail || title || 'The assistant could not be reached.';
  return new Failure(code, words, { reference, retryAfter: Number(wait) > 0 ? Number(wait) : 0 });
}

async function refusal(response) {
  const problem = await response.json().catch(() => null); // a proxy in between speaks its own language
  return failureOf({ retry_after: response.headers.get('Retry-After'), ...problem });
}

/** crypto.randomUUID exists on secure origins only, and a first look is often plain http. */
function newKey() {
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

const FENCE = /^\s*(`{3,}|~{3,})[^`]*$/;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;
const INLINE = /`([^`\n]+)`|\*\*(?!\s)((?:[^*]|\*(?!\*))+)\*\*/g; // neither part can run past its own end mark: linear

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** What the server's filters write for Markdown, as Markdown shows it. It becomes a text node all the same. */
const plain = (text) => text.replace(/(\]\s*)\\([(:])/g, '$1$2').replaceAll('&lt;', '<');

/** Bold and inline code. Links stay as written: the reader sees where they lead, and nothing is one click away. */
function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, bold] = match;
    nodes.push(plain(text.slice(end, match.index)));
    nodes.push(code === undefined ? element('strong', {}, ...inline(bold)) : element('code', {}, code));
    end = match.index + whole.length;
  }
  nodes.push(plain(text.slice(end)));
  return nodes.filter((node) => node !== '');
}

const isBlank = (line) => line.trim() === '';
const isOrdered = (line) => ITEM.exec(line)[2] !== undefined;
const indentOf = (line) => /^\s*/.exec(line)[0].replaceAll('\t', '    ').length;

function closesFence(line, mark) {
  const text = line.trim();
  return text.length >= mark.length && text === mark[0].repeat(text.length);
}

function endOfFence(lines, start) {
  const [, mark] = FENCE.exec(lines[start]);
  let i = start + 1;
  while (i < lines.length && !closesFence(lines[i], mark)) i += 1;
  return Math.min(i + 1, lines.length); // without an end it's still being written
}

function endOfList(lines, start) {
  const indent = indentOf(lines[start]);
  let i = start + 1;
  for (; i < lines.length; i += 1) {
    const line = lines[i];
    if (isBlank(line)) continue;
    if (FENCE.test(line) || HEADING.test(line)) break;
    if (ITEM.test(line)) {
      if (indentOf(line) <= indent && isOrdered(line) !== isOrdered(lines[start])) break;
    } else if (isBlank(lines[i - 1]) && indentOf(line) < indent + 2) break;
  }
  while (isBlank(lines[i - 1])) i -= 1;
  return i;
}

function endOfParagraph(lines, start) {
  let i = start + 1;
  while (i < lines.length && ![FENCE, ITEM, HEADING].some((mark) => mark.test(lines[i])) && !isBlank(lines[i])) i += 1;
  return i;
}

/** Cuts text into blocks: [{kind, lines}], kind being code, list, heading or paragraph. */
export function blocks(text) {
  const lines = text.replaceAll('\r\n', '\n').split('\n');
  const found = [];
  for (let i = 0; i < lines.length; ) {
    const start = i;
    let kind = 'paragraph';
    if (isBlank(lines[i])) [kind, i] = ['', i + 1];
    else if (FENCE.test(lines[i])) [kind, i] = ['code', endOfFence(lines, i)];
    else if (ITEM.test(lines[i])) [kind, i] = ['list', endOfList(lines, i)];
    else if (HEADING.test(lines[i])) [kind, i] = ['heading', i + 1];
    else i = endOfParagraph(lines, i);
    if (kind) found.push({ kind, lines: lines.slice(start, i) });
  }
  return found;
}

function codeNode(lines) {
  const [opening, ...inside] = lines;
  if (inside.length && closesFence(inside.at(-1), FENCE.exec(opening)[1])) inside.pop();
  const indent = indentOf(opening);
  const code = inside.map((line) => line.slice(Math.min(indent, indentOf(line)))).join('\n');
  // Long lines scroll sideways, so the keyboard must be able to get there.
  return element('pre', { tabindex: '0', role: 'group', 'aria-label': 'Code' }, element('code', {}, code));
}

function newList(line) {
  const [, , number] = ITEM.exec(line);
  if (number === undefined) return element('ul');
  return element('ol', number === '1' ? {} : { start: number });
}

function listNode(lines) {
  const open = [{ indent: indentOf(lines[0]), list: newList(lines[0]) }]; // the list, the list in its last item, ...
  const items = [];
  for (const line of lines) {
    const match = ITEM.exec(line);
    if (!match) {
      if (!isBlank(line)) items.at(-1).text += `\n${line.trim()}`;
      continue;
    }
    const indent = indentOf(line);
    while (open.length > 1 && indent < open.at(-1).indent) open.pop();
    if (indent >= open.at(-1).indent + 2 && open.length < 6) {
      const list = newList(line);
      items.at(-1).node.append(list);
      open.push({ indent, list });
    }
    const node = element('li');
    open.at(-1).list.append(node);
    items.push({ node, text: match[3] });
  }
  for (const { node, text } of items) node.prepend(...inline(text));
  return open[0].list;
}

function blockNode({ kind, lines }) {
  if (kind === 'code') return codeNode(lines);
  if (kind === 'list') return listNode(lines);
  if (kind === 'heading') return element('p', { class: 'heading' }, ...inline(HEADING.exec(lines[0])[1]));
  return element('p', {}, ...inline(lines.join('\n')));
}

/** Where the next words will appear. */
function deepest(node) {
  const last = node.lastElementChild;
  return last?.matches('p, pre, pre > code, ul, ol, li') ? deepest(last) : node;
}

/** Returns a function that shows the text so far in `target` and touches only the blocks that changed. */
export function textRenderer(target) {
  let shown = [];
  return function render(text) {
    const wanted = blocks(text);
    const keys = wanted.map(({ kind, lines }) => `${kind}\n${lines.join('\n')}`);
    keys.forEach((key, i) => {
      if (key === shown[i]) return;
      const node = blockNode(wanted[i]);
      if (target.children[i]) target.children[i].replaceWith(node);
      else target.append(node);
    });
    while (target.children.length > keys.length) target.lastElementChild.remove();
    shown = keys;
  };
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
