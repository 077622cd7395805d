// Files that come with a message: chosen, dropped or pasted, and shown with a way to take them off again. What may be sent
// the server says with the session, and judges in any case: here it spares the visitor a refusal.

const takesFiles = option('uploads') === 'on';
let chosen = []; // Files

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const extensionOf = ({ name }) => name.slice(name.lastIndexOf('.') + 1).toLowerCase();
const sizeOf = (files) => files.reduce((sum, { size }) => sum + size, 0);

function inUnits(bytes) {
  const power = bytes < 1000 ? 0 : bytes < 1_000_000 ? 1 : 2;
  const size = bytes / 1000 ** power;
  const unit = ['byte', 'kilobyte', 'megabyte'][power];
  return new Intl.NumberFormat(language, { style: 'unit', unit, maximumFractionDigits: size < 10 ? 1 : 0 }).format(size);
}

/** Why the last of these can't be sent with the others, in the visitor's words; nothing where it can. */
function objection(files, allowed) {
  const { name, size } = files.at(-1);
  if (!allowed) return words.unsupported_media;
  if (!Object.hasOwn(allowed.types, extensionOf({ name }))) {
    return fill(words.file_type, { name, types: Object.keys(allowed.types).join(', ') });
  }
  if (!size) return fill(words.file_empty, { name });
  if (files.length > allowed.max_files) return fill(words.file_count, { n: allowed.max_files });
  if (sizeOf(files) > allowed.max_bytes) return fill(words.file_size, { size: inUnits(allowed.max_bytes) });
  return '';
}

/** Systems know different types for one extension, and the server takes the usual one alone. */
const typed = (file, { types }) => new File([file], file.name, { type: types[extensionOf(file)] });

function hint(text) {
  ui.hint.textContent = text;
  ui.hint.hidden = !text;
}

function showFiles() {
  const allowed = session.get()?.uploads;
  ui.attach.hidden = !takesFiles || Boolean(session.get() && !allowed);
  ui.picker.accept = Object.keys(allowed?.types ?? {}).map((extension) => `.${extension}`).join();
  ui.files.hidden = !chosen.length;
  ui.files.replaceChildren(...chosen.map((file) => {
    const remove = iconButton('remove', fill(words.remove, file), 'M6 6l12 12M18 6L6 18', () => removeFile(file));
    return element('li', {}, element('span', { dir: 'auto' }, file.name), element('small', {}, inUnits(file.size)), remove);
  }));
}

/** The session says what may be sent, so there has to be one. */
async function addFiles(files) {
  const more = [...files]; // a list of the browser's empties itself
  if (!takesFiles || !more.length) return;
  hint('');
  try {
    await accessToken(true);
  } catch (error) {
    hint(sentence(error));
  }
  const allowed = session.get()?.uploads;
  for (const file of session.get() ? more : []) {
    const problem = objection([...chosen, file], allowed);
    if (problem) hint(problem);
    else chosen.push(typed(file, allowed));
  }
  showFiles();
  announce(ui.hint.textContent || fill(words.added, { names: more.map(({ name }) => name).join(', ') }));
  ui.message.focus();
}

function removeFile(file) {
  const at = chosen.indexOf(file);
  chosen.splice(at, 1);
  hint('');
  showFiles();
  announce(fill(words.removed, file));
  const left = ui.files.querySelectorAll('button');
  (left[Math.min(at, left.length - 1)] ?? ui.attach).focus(); // the button that had it is gone
}

/** Those that were chosen; none are any more. */
function takeFiles() {
  const files = chosen;
  chosen = [];
  hint('');
  showFiles();
  return files;
}

function onPaste(event) {
  if (!takesFiles || !event.clipboardData.files.length) return;
  event.preventDefault();
  addFiles(event.clipboardData.files);
}

function onDrag(event) {
  const isOver = takesFiles && event.type === 'dragover' && event.dataTransfer.types.includes('Files');
  ui.panel.classList.toggle('dropping', isOver);
  if (isOver) event.preventDefault();
}

function onDrop(event) {
  onDrag(event);
  if (!takesFiles || !event.dataTransfer.files.length) return;
  event.preventDefault();
  addFiles(event.dataTransfer.files);
}

/** How much of the files has gone out, from 0 to 1. */
function showProgress(exchange, share) {
  if (exchange.progress?.isConnected) {
    exchange.progress.value = share;
    return;
  }
  exchange.progress = element('progress', { 'aria-label': words.sending, max: '1', value: String(share) });
  note(exchange, words.sending);
  grow(() => exchange.note.append(exchange.progress));
}

function listenForFiles() {
  ui.picker.addEventListener('change', () => {
    addFiles(ui.picker.files);
    ui.picker.value = ''; // the same file may be chosen again
  });
  ui.message.addEventListener('paste', onPaste);
  for (const type of ['dragover', 'dragleave']) ui.panel.addEventListener(type, onDrag);
  ui.panel.addEventListener('drop', onDrop);
  showFiles();
}
