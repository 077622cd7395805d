// What the visitor sees: a button, and a dialog with the conversation, in a shadow root of their own.
// Whatever the server says becomes text nodes and a few harmless elements: nothing here parses HTML.

const MAX_ANSWER_CHARS = 1_000_000; // an answer longer than this is broken off
const MAX_KEPT = 50; // entries of a conversation that are kept
const MAX_KEPT_CHARS = 100_000;
// To send the same again would end the same.
const FINAL = new Set([
  'denied', 'content_blocked', 'too_large', 'bad_request', 'upload_rejected', 'unsupported_media', 'files_gone',
]);
const HTTP_WORDS = { session_invalid: 'lost', upstream_error: 'unavailable', upstream_unavailable: 'unavailable' };

const language = [option('lang'), ...navigator.languages]
  .map((tag) => tag.slice(0, 2).toLowerCase())
  .find((tag) => Object.hasOwn(WORDS, tag)) ?? 'en';
const words = WORDS[language];
const touch = matchMedia('(pointer: coarse)');
const narrow = matchMedia('(max-width: 480px)');
const dark = matchMedia('(prefers-color-scheme: dark)');

const memory = { get: () => null, set() {} };
const history = { none: memory, local: stored(() => localStorage, `${STORED}.history`) }[option('history', 'session')]
  ?? stored(() => sessionStorage, `${STORED}.history`);
let entries = history.get() ?? []; // [{role, text}]
// The question that is being answered, so that the next page joins its answer. It is this tab's, as the session is.
const pending = option('history') === 'none' ? memory : stored(() => sessionStorage, `${STORED}.pending`);

const listeners = new Map();

/** Tells the page. A listener of the page's that throws is the page's own error. */
function tell(event, detail = {}) {
  for (const listener of listeners.get(event) ?? []) {
    try {
      listener(detail);
    } catch (error) {
      reportError(error);
    }
  }
}

function icon(path) {
  const make = (tag, attributes) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const svg = make('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' });
  svg.append(make('path', { d: path }));
  return svg;
}

function iconButton(part, label, path, action, more = {}) {
  const node = element('button', { type: 'button', part, 'aria-label': label, title: label, ...more }, icon(path));
  node.addEventListener('click', action);
  return node;
}

const title = option('title', words.chat);
const ui = {
  launcher: iconButton('launcher', words.open, 'M4 5h16v11H9l-5 4z', open, { class: 'launcher', 'aria-expanded': 'false' }),
  log: element('div', { class: 'log', part: 'log', role: 'log', 'aria-live': 'polite', 'aria-label': words.log, tabindex: '0' }),
  status: element('p', { class: 'unseen', role: 'status' }),
  message: element('textarea', {
    rows: '1', dir: 'auto', 'aria-label': words.message, placeholder: words.message, maxlength: option('maxChars', '2000'),
    autocomplete: 'off', enterkeyhint: 'send', part: 'message',
  }),
  send: iconButton('send', words.send, 'M12 20V4M5 11l7-7 7 7', submit),
  stop: iconButton('stop', words.stop, 'M7 7h10v10H7z', () => stop(), { hidden: '' }),
  attach: iconButton('attach', words.attach, 'M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.4 3.4 0 0 1 5 5l-8.5 8.5a1.7 1.7 0 0 1-2.5-2.5L15 7', () => ui.picker.click()),
  picker: element('input', { type: 'file', multiple: '', hidden: '' }),
  files: element('ul', { class: 'files', part: 'files', role: 'list', 'aria-label': words.files, hidden: '' }),
  hint: element('p', { class: 'hint failed', hidden: '' }),
};
ui.composer = element(
  'form', { 'aria-label': words.message }, ui.files, ui.hint, ui.picker, ui.attach, ui.message, ui.send, ui.stop,
);
ui.panel = element(
  'div',
  { class: 'panel', part: 'panel', role: 'dialog', 'aria-label': title, id: 'panel', hidden: '' },
  element(
    'header', { part: 'header' },
    element('h2', {}, title),
    iconButton('new', words.new, 'M12 5v14M5 12h14', startOver),
    iconButton('close', words.close, 'M6 6l12 12M18 6L6 18', close),
  ),
  ui.log, ui.status, ui.composer,
);
ui.root = element('section', { class: 'root', lang: language, 'aria-label': title }, ui.launcher, ui.panel);
if (option('position') === 'left') ui.root.classList.add('left');

let running = null; // {exchange, abort}: what is being answered
let isOpen = false;

function showTheme() {
  const theme = option('theme', 'auto');
  ui.root.classList.toggle('dark', theme === 'dark' || (theme === 'auto' && dark.matches));
}

/** A small screen is filled by the dialog, so what lies behind it can't be reached. */
function showSize() {
  ui.panel.setAttribute('aria-modal', String(narrow.matches));
}

function announce(text) {
  ui.status.textContent = text;
}

function follow() {
  ui.log.scrollTop = ui.log.scrollHeight;
}

/** The view stays at the end while text arrives, unless the reader has scrolled away from it. */
function grow(change) {
  const isAtEnd = ui.log.scrollHeight - ui.log.clientHeight - ui.log.scrollTop < 48;
  change();
  if (isAtEnd) follow();
}

function fit() {
  ui.message.style.height = 'auto';
  ui.message.style.height = `${ui.message.scrollHeight + 2}px`;
}

function remember(entry) {
  if (!entries.includes(entry)) entries.push(entry);
  while (entries.length > MAX_KEPT || JSON.stringify(entries).length > MAX_KEPT_CHARS) entries.shift();
  history.set(entries);
}

function entry(role, label) {
  const text = element('div', { class: 'text', dir: 'auto' });
  const node = element('div', { class: `entry ${role}`, part: role }, element('span', { class: 'unseen' }, `${label}: `), text);
  ui.log.append(node);
  return { node, text };
}

function showQuestion(question, files = []) {
  const { node, text } = entry('question', words.you);
  text.textContent = question;
  if (files.length) {
    const names = files.map((name) => element('li', { dir: 'auto' }, name));
    node.append(element('ul', { class: 'names', role: 'list', 'aria-label': words.sent }, ...names));
  }
}

function showText(role, label, words_) {
  const { node, text } = entry(role, label);
  textRenderer(text, { links: true })(words_);
  return node;
}

const showEntry = ({ role, text, files }) => {
  if (role === 'question') showQuestion(text, files);
  else showText(role, role === 'push' ? words.later : words.assistant, text);
};

function showPush({ text, data }) {
  const entry = { role: 'push', text };
  grow(() => showEntry(entry));
  remember(entry);
  if (!isOpen) ui.launcher.classList.add('news');
  tell('push', { text, data });
}

function note(exchange, text, kind = 'note') {
  grow(() => {
    exchange.note?.remove();
    exchange.note = text ? element('p', { class: kind }, text) : null;
    if (text) exchange.node.append(exchange.note);
  });
}

const kindOf = ({ code }) => (HOPELESS.has(HTTP_WORDS[code] ?? code) ? 'denied' : HTTP_WORDS[code] ?? code);

/** What went wrong, in the visitor's words. */
function sentence(failure, files) {
  const kind = files && failure.code === 'too_large' ? 'files_large' : kindOf(failure);
  return Object.hasOwn(words, kind) ? words[kind] : words.unavailable;
}

/** What went wrong, and a way to try again where that can help. */
function showFailure(exchange, failure) {
  note(exchange, sentence(failure, exchange.names), 'note failed');
  announce(exchange.note.textContent);
  if (FINAL.has(kindOf(failure))) return;
  const ready = Date.now() + failure.retryAfter * 1000;
  const retry = element('button', { type: 'button' });
  retry.addEventListener('click', () => {
    if (running) return;
    ui.message.focus(); // the button that has the focus is about to go
    run(exchange);
  });
  const tick = () => {
    const left = Math.ceil((ready - Date.now()) / 1000);
    retry.disabled = left > 0;
    retry.textContent = left > 0 ? words.wait.replace('{n}', left) : words.retry;
    if (left > 0) setTimeout(() => retry.isConnected && tick(), 1000);
  };
  tick();
  grow(() => exchange.note.append(retry));
}

function showRunning() {
  const root = ui.panel.getRootNode();
  const hadFocus = root.activeElement === ui.stop || root.activeElement === ui.send;
  ui.stop.hidden = !running;
  ui.send.hidden = Boolean(running);
  ui.log.setAttribute('aria-busy', String(Boolean(running))); // read out when it's complete, not piece by piece
  if (hadFocus) ui.message.focus();
}

function newExchange(question, known = {}) {
  const { node, text } = entry('answer', words.assistant);
  const exchange = { question, node, text, said: '', sent: false, last: null, key: null, id: null, ...known };
  exchange.entry = { role: 'answer', text: '' };
  exchange.render = textRenderer(text, { links: true });
  exchange.onProof = () => note(exchange, words.proving);
  exchange.onProgress = (share) => showProgress(exchange, share);
  return exchange;
}

function paint(exchange) {
  cancelAnimationFrame(exchange.frame);
  exchange.frame = 0;
  grow(() => exchange.render(exchange.said));
}

function addPiece(exchange, piece) {
  exchange.said += piece;
  if (exchange.said.length > MAX_ANSWER_CHARS) throw new Failure('unavailable', 'The answer is too long.');
  note(exchange, '');
  exchange.frame ||= requestAnimationFrame(() => paint(exchange));
}

async function run(exchange) {
  const abort = new AbortController();
  const mine = { exchange, abort };
  running = mine;
  if (!exchange.id || exchange.isOver) Object.assign(exchange, { said: '', last: null, id: null, sent: false });
  if (!exchange.key || exchange.isOver) exchange.key = newKey();
  exchange.isOver = false;
  paint(exchange);
  note(exchange, words.thinking);
  showRunning();
  try {
    for await (const { text, answer_id: id } of answerTo(exchange, abort.signal, () => note(exchange, words.reconnecting))) {
      if (text) addPiece(exchange, text);
      else if (id) {
        keepPending(exchange);
        if (!exchange.said) note(exchange, words.thinking);
      }
    }
    end(exchange, exchange.said.trim() ? null : new Failure('empty', 'There was no answer.'));
  } catch (error) {
    if (abort.signal.reason === 'dropped') return;
    if (!(error instanceof Failure) && !abort.signal.aborted) reportError(error);
    end(exchange, abort.signal.aborted ? new Failure('stopped', 'Stopped.') : error);
  } finally {
    if (running === mine) {
      running = null;
      showRunning();
    }
  }
}

/** Files are lost with the page, so such a question is kept with its files' names, and joined once they have arrived. */
function keepPending({ question, key, id, names }) {
  pending.set({ question, key, id, names });
}

function end(exchange, failure) {
  paint(exchange);
  note(exchange, '');
  exchange.isOver = failure?.code !== 'lost'; // what was lost may go on at the server: to try again joins it
  pending.set(null);
  exchange.entry.text = exchange.said;
  if (exchange.said) remember(exchange.entry);
  if (failure) {
    showFailure(exchange, failure);
    tell('error', { code: failure.code });
  } else tell('answer', { text: exchange.said });
  if (option('pushes') !== 'off') listen();
}

function ask(question, files) {
  const names = files.map(({ name }) => name);
  ui.log.querySelectorAll('.note button').forEach((node) => node.remove());
  showQuestion(question, names);
  remember({ role: 'question', text: question, ...(names.length && { files: names }) });
  tell('message', { text: question, files: names });
  const exchange = newExchange(question || names.join(', ').slice(0, ui.message.maxLength), {
    key: newKey(), ...(names.length && { files, names }),
  });
  keepPending(exchange);
  follow();
  run(exchange);
}

function submit(event) {
  event?.preventDefault();
  const question = ui.message.value.trim();
  if (running || !(question || chosen.length)) return;
  ui.message.value = '';
  fit();
  ui.message.focus();
  ask(question, takeFiles());
}

function stop(reason = 'stopped') {
  if (!running) return;
  stopAnswer(running.exchange);
  running.abort.abort(reason);
}

/** A new conversation is a new session, so that the workflow's memory starts empty too. */
function startOver() {
  stop('dropped');
  running = null;
  const headers = { Authorization: `Bearer ${session.get()?.access}` };
  if (session.get()) call('DELETE', 'v1/session', { headers }).catch(() => {}); // it ends by itself, later
  socket?.close();
  session.set(null);
  pending.set(null);
  history.set(null);
  entries = [];
  ui.log.replaceChildren();
  takeFiles();
  greet();
  showRunning();
  announce(words.new);
  ui.message.focus();
}

function greet() {
  showText('answer', words.assistant, option('greeting', words.greeting));
}

function show() {
  isOpen = true;
  ui.panel.hidden = false;
  ui.launcher.hidden = true;
  ui.launcher.setAttribute('aria-expanded', 'true');
  ui.launcher.classList.remove('news');
  follow();
  tell('open');
}

function open() {
  if (isOpen) return;
  show();
  (touch.matches ? ui.log : ui.message).focus(); // a tap should not bring up the on-screen keyboard unasked
}

function close() {
  if (!isOpen) return;
  isOpen = false;
  ui.panel.hidden = true;
  ui.launcher.hidden = false;
  ui.launcher.setAttribute('aria-expanded', 'false');
  ui.launcher.focus();
  tell('close');
}

/** Esc closes. Where the dialog fills the screen, Tab stays inside it. */
function onPanelKey(event) {
  if (event.key === 'Escape' && !event.isComposing) {
    event.stopPropagation();
    close();
  }
  if (event.key !== 'Tab' || !narrow.matches) return;
  const stops = [...ui.panel.querySelectorAll('button, textarea, a, pre, .log')].filter(
    (node) => !node.disabled && node.getClientRects().length,
  );
  const [from, to] = event.shiftKey ? [stops[0], stops.at(-1)] : [stops.at(-1), stops[0]];
  if (ui.panel.getRootNode().activeElement !== from) return;
  event.preventDefault();
  to.focus();
}

function onMessageKey(event) {
  // Enter that confirms an input method's suggestion is not ours (Safari: keyCode 229).
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  submit(event);
}

/** What was said before, and the answer that was under way when the page was left. */
function restore() {
  const asked = pending.get();
  greet();
  entries.forEach(showEntry);
  if (entries.length && !session.get()) ui.log.append(element('p', { class: 'earlier' }, words.earlier));
  if (asked && session.get()) run(newExchange(asked.question, asked));
  else if (option('pushes') !== 'off') listen();
}

function start() {
  const host = element('sidegate-chat');
  const shadow = host.attachShadow({ mode: 'open' });
  const sheet = new CSSStyleSheet(); // a policy of the page's on styles lets it pass
  sheet.replaceSync(STYLE);
  shadow.adoptedStyleSheets = [sheet];
  shadow.append(ui.root);
  ui.composer.addEventListener('submit', submit);
  ui.message.addEventListener('keydown', onMessageKey);
  ui.message.addEventListener('input', fit);
  ui.panel.addEventListener('keydown', onPanelKey);
  dark.addEventListener('change', showTheme);
  narrow.addEventListener('change', showSize);
  listenForFiles();
  takePushes(showPush);
  showTheme();
  showSize();
  document.body.append(host);
  restore();
  if (option('open') === 'true') show(); // the page's reader keeps the focus
  window.dispatchEvent(new Event('sidegate:ready'));
}

/** Calls `listener` with what happens; returns a function that ends that. */
function on(event, listener) {
  if (!listeners.has(event)) listeners.set(event, new Set());
  listeners.get(event).add(listener);
  return () => listeners.get(event).delete(listener);
}

window.Sidegate = Object.freeze({ open, close, on });
if (document.body) start();
else document.addEventListener('DOMContentLoaded', start);
