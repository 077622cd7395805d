// One unmodified client, as its own documentation uses it: `node drive.mjs CLIENT URL TOKEN`. Prints what it saw as JSON.
// The packages lie in .cache/clients, whose place is in SIDEGATE_CLIENTS.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.env.SIDEGATE_CLIENTS}/package.json`));
const [, , client, url, token] = process.argv;
const QUESTION = { model: "shop", messages: [{ role: "user", content: "hello" }] };
const HEADERS = { Authorization: `Bearer ${token}`, Origin: "https://shop.example", "User-Agent": "Mozilla/5.0 node" };

async function ask(accept = "application/json", more = {}) {
  return fetch(`${url}/v1/messages`, {
    method: "POST",
    headers: { ...HEADERS, "Content-Type": "application/json", Accept: accept, ...more },
    body: JSON.stringify({ message: "hello" }),
  });
}

const clients = {
  async openai() {
    const { OpenAI } = require("openai");
    const found = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
    const plain = await found.chat.completions.create(QUESTION);
    const stream = await found.chat.completions.create({
      ...QUESTION, stream: true, stream_options: { include_usage: true },
    });
    const pieces = [];
    let usage = null;
    for await (const piece of stream) {
      pieces.push(piece.choices[0]?.delta?.content ?? "");
      usage = piece.usage ?? usage;
    }
    const models = [];
    for await (const model of found.models.list()) models.push(model.id);
    const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "nobodys" });
    const refused = await stranger.chat.completions.create(QUESTION).catch((error) => error);
    return {
      plain: plain.choices[0].message.content,
      finish: plain.choices[0].finish_reason,
      stream: pieces.join(""),
      tokens: usage.total_tokens,
      models,
      refused: [refused.constructor.name, refused.status, refused.code, Boolean(refused.requestID)],
    };
  },

  // What a browser would ask for in a preflight.
  async "openai-headers"() {
    const { OpenAI } = require("openai");
    const names = new Set();
    const found = new OpenAI({
      baseURL: `${url}/v1`, apiKey: token, organization: "o", project: "p", dangerouslyAllowBrowser: true,
      fetch: (address, init) => {
        for (const [name] of new Headers(init.headers)) names.add(name);
        return fetch(address, init);
      },
    });
    await found.chat.completions.create(QUESTION);
    for await (const piece of found.chat.completions.stream(QUESTION)) void piece;
    return { names: [...names] };
  },

  // How an answer ends, as a document and as a stream.
  async "openai-ending"() {
    const { OpenAI } = require("openai");
    const found = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
    const plain = await found.chat.completions.create(QUESTION);
    const stream = await found.chat.completions.stream({ ...QUESTION, stream_options: { include_usage: true } });
    const seen = { text: "", finish: null };
    let tokens = 0;
    for await (const piece of stream) {
      seen.text += piece.choices[0]?.delta?.content ?? "";
      seen.finish = piece.choices[0]?.finish_reason ?? seen.finish;
      tokens = piece.usage?.total_tokens ?? tokens;
    }
    const { message, finish_reason: finish } = plain.choices[0];
    return { plain: { text: message.content, finish }, stream: seen, isCounted: tokens === plain.usage.total_tokens };
  },

  // A failure in the middle of a stream.
  async "openai-broken"() {
    const { OpenAI } = require("openai");
    const found = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
    const stream = await found.chat.completions.create({ ...QUESTION, stream: true });
    try {
      for await (const piece of stream) void piece;
    } catch (error) {
      return { code: error.code };
    }
    return { code: null };
  },

  // Joins an answer that was begun by fetch, by a ticket, since an EventSource sends no headers of ours.
  async eventsource() {
    const { EventSource } = require("eventsource");
    const accepted = await ask("application/json", { Prefer: "respond-async" });
    const opened = await fetch(`${url}/v1/session/ticket`, { method: "POST", headers: HEADERS });
    const { ticket } = await opened.json();
    const source = new EventSource(`${url}${accepted.headers.get("location")}?ticket=${ticket}`, {
      fetch: (input, init) =>
        fetch(input, { ...init, headers: { ...init.headers, Origin: HEADERS.Origin, "User-Agent": HEADERS["User-Agent"] } }),
    });
    return new Promise((resolve, reject) => {
      const seen = { text: "", ids: [] };
      source.addEventListener("delta", (event) => {
        seen.text += JSON.parse(event.data).text;
        seen.ids.push(event.lastEventId);
      });
      source.addEventListener("done", () => {
        source.close();
        resolve({ text: seen.text, numbered: seen.ids.every((id) => /:\d+$/.test(id)) });
      });
      source.addEventListener("error", (event) => {
        source.close();
        reject(new Error(`${event.code} ${event.message}`));
      });
    });
  },

  async "fetch-event-source"() {
    // Made for browsers: these two are all that it wants of one.
    globalThis.window = globalThis;
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    const { fetchEventSource } = require("@microsoft/fetch-event-source");
    const names = [];
    let text = "";
    await fetchEventSource(`${url}/v1/messages`, {
      method: "POST",
      headers: { ...HEADERS, "Content-Type": "application/json" },
      body: JSON.stringify({ message: "hello" }),
      onmessage(event) {
        names.push(event.event);
        if (event.event === "delta") text += JSON.parse(event.data).text;
      },
      onerror(error) {
        throw error;
      },
    });
    return { text, first: names[0], last: names.at(-1) };
  },

  async ws() {
    const { WebSocket } = require("ws");
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/ws`, "sidegate.v1", {
      headers: { Authorization: HEADERS.Authorization, "User-Agent": HEADERS["User-Agent"] }, origin: HEADERS.Origin,
    });
    return new Promise((resolve, reject) => {
      let text = "";
      socket.on("open", () => socket.send(JSON.stringify({ type: "message", id: "m1", message: "hello" })));
      socket.on("message", (data) => {
        const frame = JSON.parse(data);
        if (frame.type === "delta") text += frame.text;
        if (frame.type === "done") {
          socket.close(1000);
          socket.on("close", (code) => resolve({ text, protocol: socket.protocol, code }));
        }
      });
      socket.on("error", reject);
    });
  },
};

console.log(JSON.stringify(await clients[client]()));
