// The visitor's session: its tokens lie in sessionStorage, where this tab alone has them, and no cookie is sent.

const script = document.currentScript ?? document.querySelector('script[src*="/widget.js"]');
const option = (name, otherwise = '') => script.dataset[name] || otherwise;
const base = new URL('.', script.src); // Sidegate, as the page reaches it
const STORED = `sidegate.${option('site') || base.host}`;
const OPENING_MS = 30_000; // how long a session may take to open
const SOON_MS = 10_000; // a token that ends this soon is not used any more

/** A value in a page's storage, or only in memory where that is switched off. */
function stored(storage, name) {
  let value = null;
  try {
    value = JSON.parse(storage().getItem(name));
  } catch {
    // switched off, or something else lies there: begin anew
  }
  return {
    get: () => value,
    set(next) {
      value = next;
      try {
        if (next) storage().setItem(name, JSON.stringify(next));
        else storage().removeItem(name);
      } catch {
        // switched off, or full: memory will do until the page is left
      }
    },
  };
}

const session = stored(() => sessionStorage, `${STORED}.session`);
let opening = null; // a promise of a token: who asks meanwhile waits for the same

/** As fetch. A form goes by XMLHttpRequest, since fetch doesn't say how much of a request has gone out. */
function sendForm(address, { method, signal, headers, body }, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, address);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener('progress', ({ loaded, total }) => onProgress(loaded / total));
    request.addEventListener('load', () => {
      if (request.responseURL !== address.href) reject(new TypeError('redirected'));
      const given = { 'Retry-After': request.getResponseHeader('Retry-After') ?? '' };
      resolve(new Response(request.responseText || null, { status: request.status, headers: given }));
    });
    request.addEventListener('error', () => reject(new TypeError('no connection'))); // as fetch's
    request.addEventListener('abort', () => reject(signal.reason));
    signal.throwIfAborted();
    signal.addEventListener('abort', () => request.abort(), { once: true });
    request.send(body);
  });
}

/** One request. Raises Failure for a refusal; a challenge is solved, and the same request made again with its solution. */
async function call(method, path, { headers, fields, form, signal, onProof, onProgress } = {}, proof = null) {
  const address = new URL(path, base);
  const request = {
    method,
    signal,
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
    headers: {
      ...(option('site') && { 'X-Sidegate-Site': option('site') }),
      ...(fields && { 'Content-Type': 'application/json' }),
      ...(proof && { 'X-Challenge-Solution': proof }),
      ...headers,
    },
    body: form ?? (fields && JSON.stringify(fields)),
  };
  const response = await (form ? sendForm(address, request, onProgress) : fetch(address, request));
  if (response.ok) return response;
  const problem = await response.json().catch(() => null); // a proxy in between speaks its own language
  if (response.status === 428 && problem?.challenge && !proof) {
    onProof?.();
    return call(method, path, { headers, fields, form, signal, onProgress }, await solve(problem.challenge, signal));
  }
  throw failureOf({ code: response.status === 413 ? 'too_large' : 'unavailable', retry_after: response.headers.get('Retry-After'), ...problem });
}

async function grant(path, options) {
  const response = await call('POST', path, { ...options, signal: AbortSignal.timeout(OPENING_MS) });
  const given = await response.json();
  session.set({
    ...(options.fields && session.get()), // a refreshed session has seen what it has seen
    access: given.access_token,
    accessEnds: Date.now() + given.expires_in * 1000,
    refresh: given.refresh_token,
    refreshEnds: Date.now() + given.refresh_expires_in * 1000,
    uploads: given.uploads,
  });
  return given.access_token;
}

async function newToken(mayOpen) {
  const { refresh, refreshEnds = 0 } = session.get() ?? {};
  if (Date.now() + SOON_MS < refreshEnds) {
    try {
      return await grant('v1/session/refresh', { fields: { refresh_token: refresh } });
    } catch (error) {
      if (error.code !== 'session_invalid') throw error;
    }
  }
  session.set(null);
  if (!mayOpen) throw new Failure('session_invalid', 'The session has ended.');
  return grant('v1/session', { headers: option('embedKey') ? { 'X-Embed-Key': option('embedKey') } : {} });
}

/** A token that is still good: the one at hand, a refreshed one, or, where that `mayOpen` one, a new session's. */
async function accessToken(mayOpen) {
  const { access, accessEnds = 0 } = session.get() ?? {};
  if (Date.now() + SOON_MS < accessEnds) return access;
  opening ??= newToken(mayOpen).finally(() => {
    opening = null;
  });
  return opening;
}

/** A request of the session. One that has ended is replaced, once. */
async function authorised(method, path, options = {}, mayOpen = true) {
  for (let again = false; ; again = true) {
    const access = await accessToken(mayOpen);
    try {
      return await call(method, path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${access}` } });
    } catch (error) {
      if (error.code !== 'session_invalid') throw error;
      if (session.get()?.access === access) session.set(null);
      if (again || !mayOpen) throw error;
    }
  }
}
