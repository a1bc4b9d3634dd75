// Asks /v1; nothing else in the studio knows about HTTP.

import { ask, field } from "./dom.js";
import { root, t } from "./words.js";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const TOKEN = "shitu-token";
export const token = () => sessionStorage.getItem(TOKEN) ?? "";
const authorised = () => (token() ? { Authorization: `Bearer ${token()}` } : {});
let asking = null; // one dialogue, however many requests were refused

async function askForToken() {
  asking ??= ask(t("token.title"), {
    text: t("token.text"), yes: t("token.use"),
    body: [field(t("token.field"), { name: "token", type: "password", required: true })],
  }).finally(() => { asking = null; });
  const given = await asking;
  if (given) sessionStorage.setItem(TOKEN, given.get("token").trim());
  return given !== null;
}

function address(path, query) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given).toString();
  return `${root}/v1/${path}${text ? `?${text}` : ""}`;
}

// Ids of a database may have 63 bits, more than a number holds here: these stay the text that came.
const whole = (key, value, at) => (value > Number.MAX_SAFE_INTEGER && /^\d+$/.test(at?.source) ? at.source : value);
export const parsed = (text) => JSON.parse(text, whole);

const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });

// `json` or `form` is the body. Resolves to the answer; throws ApiError. A busy server (429) is asked again.
export async function call(method, path, { json, form, query, signal, raw = false } = {}) {
  for (let attempt = 0; ; attempt += 1) {
    const headers = { ...authorised(), ...(json === undefined ? {} : { "Content-Type": "application/json" }) };
    const body = json === undefined ? form : JSON.stringify(json);
    let answer;
    try {
      answer = await fetch(address(path, query), { method, headers, body, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "unreachable", t("error.unreachable"));
    }
    if (answer.ok) return raw ? answer : answer.status === 204 ? null : parsed(await answer.text());
    if (answer.status === 429 && attempt < 4) {
      await pause(Math.min(Number(answer.headers.get("Retry-After")) || 1, 10));
      continue;
    }
    if (answer.status === 401 && (await askForToken())) continue;
    const told = (await answer.json().catch(() => null))?.error;
    throw new ApiError(answer.status, told?.code ?? "", told?.message ?? t("error.status", { status: answer.status }));
  }
}

export const get = (path, query, options) => call("GET", path, { query, ...options });
export const post = (path, json, options) => call("POST", path, { json, ...options });
const part = encodeURIComponent;
export const at = (gallery, ...rest) => ["galleries", part(gallery), ...rest].join("/");

export function files(list, more = {}) {
  const form = new FormData();
  for (const file of list) form.append("files", file, file.name || "photo.jpg");
  for (const [key, value] of Object.entries(more)) form.append(key, value);
  return form;
}

// --- pictures: an <img> sends no token, so with one they are fetched when they come into sight

const watching = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    watching.unobserve(target);
    load(target);
  }
}, { rootMargin: "300px" });

async function load(image) {
  try {
    const answer = await call("GET", image.dataset.path, { raw: true, query: sized(image.dataset.size) });
    image.src = URL.createObjectURL(await answer.blob());
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

// Ids begin anew in a gallery that is made anew: what was kept of an older one may not be shown for it.
export const pictures = { of: "" };
export const sized = (size) => ({ size, of: pictures.of });

// Shows the picture of an entry in an <img>; one that cannot be shown becomes an empty frame with its `alt`.
export function showPicture(image, path, size = 160) {
  image.addEventListener("error", () => image.classList.add("missing"), { once: true });
  image.classList.remove("missing");
  if (!token()) {
    image.loading = "lazy";
    image.src = address(path, sized(size));
    return image;
  }
  image.dataset.path = path;
  image.dataset.size = size;
  watching.observe(image);
  return image;
}

export const itemPicture = (gallery, id) => at(gallery, "items", id, "picture");

// --- jobs

// Follows a job to its end; `told` is called with each state of it. Resolves to its result, throws ApiError.
export async function follow(job, told = () => {}) {
  let now = job;
  for (let wait = 0.15; ; wait = Math.min(wait * 1.5, 2)) {
    told(now);
    if (now.state === "done") return now.result;
    if (now.state === "failed") throw new ApiError(500, "job_failed", now.error?.message ?? now.error);
    if (now.state === "cancelled") throw new DOMException("cancelled", "AbortError");
    await pause(wait);
    now = await jobState(now.id);
  }
}

const unwrapped = (answer) => answer.job ?? answer;
export const jobState = async (id) => unwrapped(await get(`jobs/${part(id)}`));
export const cancelJob = (id) => call("DELETE", `jobs/${part(id)}`);
export const startJob = async (gallery, json, options) => unwrapped(await post(at(gallery, "jobs"), json, options));
