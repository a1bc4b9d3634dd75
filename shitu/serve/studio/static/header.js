// The head of every page: which gallery it is about, and the way back of the last change.

import { at, call, get, pictures, post } from "./api.js";
import { $, ask, busy, failed, field, h, toast } from "./dom.js";
import { t } from "./words.js";

const REMEMBERED = "shitu-gallery";
const NEW = "/new"; // no gallery can be called so
const chooser = $("#gallery");
const listeners = [];

// `name` is "" where the server has no gallery; `info`: GET /v1/galleries/{name}.
export const gallery = { name: "", info: null, all: [] };

// Calls `run(why)` once the gallery is known, and again whenever it ("chosen") or its entries ("changed") are others.
export function onGallery(run) {
  listeners.push(run);
  if (gallery.info || ready) run("chosen");
}

let ready = false;
const tell = (why) => { for (const run of listeners) Promise.resolve(run(why)).catch(failed); };

// After a change: the counts anew, and everyone on the page.
export async function changed() {
  await read();
  tell("changed");
}

async function read() {
  gallery.all = (await get("galleries")).galleries;
  const known = gallery.all.some((each) => each.name === gallery.name);
  gallery.info = known ? await get(at(gallery.name)) : null;
  pictures.of = gallery.info?.info.created ?? "";
  chooser.replaceChildren(
    ...gallery.all.map((each) => h("option", { value: each.name, ".selected": each.name === gallery.name },
      `${each.name} · ${Number(each.entries).toLocaleString(document.documentElement.lang)}`)),
    h("option", { value: NEW }, t("gallery.new")));
  $("#undo").disabled = !gallery.info || gallery.info.writable === false;
}

export async function choose(name) {
  gallery.name = name;
  if (name) localStorage.setItem(REMEMBERED, name);
  await read();
  const query = name ? `?g=${encodeURIComponent(name)}` : "";
  for (const link of document.querySelectorAll("a[data-page]")) link.search = query;
  const here = new URL(location.href);
  here.searchParams.delete("lang");
  if (name) here.searchParams.set("g", name);
  history.replaceState(history.state, "", here);
  for (const link of document.querySelectorAll("a.language")) {
    const other = new URL(here);
    other.searchParams.set("lang", link.hreflang);
    link.href = other.href;
  }
  tell("chosen");
}

export async function create() {
  const given = await ask(t("gallery.create"), {
    yes: t("create"), text: t("gallery.create.text"),
    body: [field(t("name"), { name: "name", required: true, maxlength: 64 })],
  });
  if (!given) { await read(); return; }
  const made = await post("galleries", { name: given.get("name").trim() });
  await choose(made.name ?? given.get("name").trim());
  toast(t("gallery.created", { name: gallery.name }));
}

export async function undo(button) {
  await busy(button, async () => {
    const { entries } = await post(at(gallery.name, "undo"));
    await changed();
    toast(t("undone", { n: entries }), { action: { label: t("redo"), run: () => undo() } });
  });
  $("#undo").disabled = !gallery.info || gallery.info.writable === false;
}

export async function rename(name, to) {
  await call("PATCH", at(name), { json: { name: to } });
  await choose(to);
}

chooser.addEventListener("change", () => {
  const chosen = chooser.value;
  (chosen === NEW ? create() : choose(chosen)).catch((error) => { failed(error); read().catch(failed); });
});
$("#undo").addEventListener("click", (event) => undo(event.currentTarget));

async function begin() {
  const wanted = [new URL(location.href).searchParams.get("g"), localStorage.getItem(REMEMBERED)];
  const names = (await get("galleries")).galleries.map((each) => each.name);
  ready = true;
  await choose(wanted.find((name) => names.includes(name)) ?? names[0] ?? "");
}

begin().catch(failed);
