// Markdown as nodes, a little of it: never by parsing HTML. The chat page imports it, and widget.js contains it.

const FENCE = /^\s*(`{3,}|~{3,})[^`]*$/;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;
const BOLD_OR_CODE = /`([^`\n]+)`|\*\*(?!\s)((?:[^*]|\*(?!\*))+)\*\*/g; // neither part can run past its own end mark: linear
// A link; what the server's filters made none of, so that the address in it stays text too; or a bare address.
const LINK = /\[([^[\]\n]{1,300})\]\((https?:\/\/[^\s()<>\\]{1,2000})\)|\]\s{0,9}\\[(:][^\s]{0,2000}|\b(https?:\/\/[^\s<>()[\]{}"'`\\|*]{1,2000}[^\s<>()[\]{}"'`\\|*.,:;!?])/g;

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** What the server's filters write for Markdown, as Markdown shows it. It becomes a text node all the same. */
const plain = (text) => text.replace(/(\]\s*)\\([(:])/g, '$1$2').replaceAll('&lt;', '<');

/** Cuts text at what `mark` matches; `between` and `found` (of a match) give the nodes. */
function split(text, mark, between, found) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(mark)) {
    nodes.push(...between(text.slice(end, match.index)), found(match));
    end = match.index + match[0].length;
  }
  nodes.push(...between(text.slice(end)));
  return nodes.filter((node) => node !== '');
}

/** A link to the web, or the text as it was: no other scheme, and nobody's name and password in front of the host. */
function linkNode([whole, label, address, bare]) {
  if (!(address || bare) || !URL.canParse(address || bare)) return plain(whole);
  const { protocol, username, password, href } = new URL(address || bare);
  if (!['https:', 'http:'].includes(protocol) || username || password) return plain(whole);
  const attributes = { href, title: href, target: '_blank', rel: 'noopener noreferrer nofollow' };
  return element('a', attributes, label ?? bare);
}

/** Bold and inline code; links where `links` is on. Elsewhere they stay as written: the reader sees where they lead. */
function inline(text, links) {
  const between = (words) => (links ? split(words, LINK, (rest) => [plain(rest)], linkNode) : [plain(words)]);
  return split(text, BOLD_OR_CODE, between, ([, code, bold]) =>
    code === undefined ? element('strong', {}, ...inline(bold, links)) : element('code', {}, code),
  );
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

function listNode(lines, links) {
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
  for (const { node, text } of items) node.prepend(...inline(text, links));
  return open[0].list;
}

function blockNode({ kind, lines }, links) {
  if (kind === 'code') return codeNode(lines);
  if (kind === 'list') return listNode(lines, links);
  if (kind === 'heading') return element('p', { class: 'heading' }, ...inline(HEADING.exec(lines[0])[1], links));
  return element('p', {}, ...inline(lines.join('\n'), links));
}

/** Where the next words will appear. */
export function deepest(node) {
  const last = node.lastElementChild;
  return last?.matches('p, pre, pre > code, ul, ol, li') ? deepest(last) : node;
}

/**
 * Returns a function that shows the text so far in `target` and touches only the blocks that changed.
 * `links`: addresses become links.
 */
export function textRenderer(target, { links = false } = {}) {
  let shown = [];
  return function render(text) {
    const wanted = blocks(text);
    const keys = wanted.map(({ kind, lines }) => `${kind}\n${lines.join('\n')}`);
    keys.forEach((key, i) => {
      if (key === shown[i]) return;
      const node = blockNode(wanted[i], links);
      if (target.children[i]) target.children[i].replaceWith(node);
      else target.append(node);
    });
    while (target.children.length > keys.length) target.lastElementChild.remove();
    shown = keys;
  };
}
