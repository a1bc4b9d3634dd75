// One label: its pictures, chosen by ticking, moved, deleted and added to; the label renamed, merged, deleted.

import { at, call, files, get, itemPicture, post, showPicture } from "./api.js";
import { labelInput } from "./combobox.js";
import { $, ask, busy, failed, h, toast } from "./dom.js";
import { lastDoubts, showDoubts } from "./doubts.js";
import { changed, gallery, undo } from "./header.js";
import { t } from "./words.js";

const PAGE = 200; // entries asked for at a time
const BATCH = { files: 16, bytes: 32e6 }; // in one upload, unless one photo alone has more
const list = $("#items");
let label = "";
let chosen = new Set();
let round = 0;
let last = null; // the box that was ticked before: with Shift all between the two

const back = (text) => toast(text, { action: { label: t("undo"), run: () => undo() } });

export async function openLabel(name) {
  const same = name === label;
  label = name;
  chosen = new Set();
  last = null;
  const mine = (round += 1);
  $("#label-name").textContent = name;
  if (!same) list.replaceChildren();
  mark();
  let after = null;
  let all = [];
  do {
    const found = await get(at(gallery.name, "items"), { label, after, limit: PAGE });
    if (mine !== round) return;
    all = [...all, ...found.items];
    if (after === null) list.replaceChildren(...all.map(card));
    else list.append(...found.items.map(card));
    after = found.next;
  } while (after !== null && after !== undefined);
  $("#label-count").textContent = t("pictures", { n: all.length });
  markDoubts(mine, new Set(all.map((each) => each.id))).catch(failed);
  for (const id of ["label-rename", "label-merge", "label-delete"]) $(`#${id}`).disabled = !all.length;
}

async function markDoubts(mine, there) {
  const found = (await lastDoubts(gallery.name)).filter((each) => there.has(each.id));
  if (mine !== round) return;
  for (const row of showDoubts($("#label-doubts"), found, true)) {
    $(`li[data-id="${row.dataset.id}"] .item`, list)?.classList.add("doubt");
  }
}

function card(item) {
  const box = h("input", { type: "checkbox", "aria-label": t("entry", { id: item.id, image: item.image ?? "" }), onclick: tick });
  return h("li", { "data-id": item.id }, h("label.item", { title: item.image ?? "" },
    showPicture(h("img.thumb", { alt: "" }), itemPicture(gallery.name, item.id), 320), box));
}

const boxes = () => [...list.querySelectorAll("input")];
const ids = () => [...chosen];

function tick(event) {
  const all = boxes();
  const place = all.indexOf(event.target);
  if (event.shiftKey && last !== null) {
    const on = event.target.checked;
    for (const each of all.slice(Math.min(last, place), Math.max(last, place) + 1)) set(each, on);
  } else set(event.target, event.target.checked);
  last = place;
  mark();
}

function set(box, on) {
  box.checked = on;
  const id = Number(box.closest("li").dataset.id);
  if (on) chosen.add(id);
  else chosen.delete(id);
}

function mark() {
  $("#chosen").hidden = !chosen.size;
  $("#chosen-count").textContent = t("selected", { n: chosen.size });
  if (chosen.size && !$("#move").children.length) {
    const combo = labelInput({ hint: t("move.to"), onPick: move });
    $("#move").replaceChildren(combo, h("button", { type: "button", onclick: () => move(combo.input.value.trim()) }, t("move")));
  }
  if (!chosen.size) $("#move").replaceChildren();
}

async function move(to) {
  if (!to || to === label) return;
  await busy(null, async () => {
    const n = chosen.size;
    await call("PATCH", at(gallery.name, "items"), { json: { ids: ids(), label: to } });
    await left();
    back(t("moved", { n, label: to }));
  });
}

// After a change that may have emptied the label: then the grid is where there is something to see.
async function left() {
  const found = await get(at(gallery.name, "items"), { label, limit: 1 });
  if (!found.items.length) go(null);
  await changed();
}

function go(name) {
  const here = new URL(location.href);
  if (name === null) here.searchParams.delete("label");
  else here.searchParams.set("label", name);
  history.replaceState({}, "", here);
}

$("#all").addEventListener("click", () => { for (const box of boxes()) set(box, true); mark(); });
$("#none").addEventListener("click", () => { for (const box of boxes()) set(box, false); mark(); });
$("#invert").addEventListener("click", () => { for (const box of boxes()) set(box, !box.checked); mark(); });

$("#remove").addEventListener("click", (event) => busy(event.currentTarget, async () => {
  const n = chosen.size;
  await post(at(gallery.name, "items", "remove"), { ids: ids() });
  await left();
  back(t("removed", { n }));
}));

$("#label-delete").addEventListener("click", (event) => busy(event.currentTarget, async () => {
  const all = boxes().map((box) => Number(box.closest("li").dataset.id));
  const yes = await ask(t("label.delete", { label }), { text: t("label.delete.text", { n: all.length }), yes: t("delete"), danger: true });
  if (!yes) return;
  const gone = label;
  await post(at(gallery.name, "items", "remove"), { ids: all });
  go(null);
  await changed();
  back(t("label.deleted", { label: gone }));
}));

// Renaming onto a label that is there makes one of the two, and is asked about first.
async function renameTo(to) {
  if (!to || to === label) return;
  const from = label;
  const say = (merge) => post(at(gallery.name, "labels", "rename"), { from, to, merge });
  const { labels } = await get(at(gallery.name, "labels"), { text: to, limit: 1000 });
  const merged = labels.some((each) => each.label === to);
  if (merged) {
    const yes = await ask(t("merge.title", { from, to }), { text: t("merge.text", { from, to }), yes: t("merge.yes") });
    if (!yes) return;
  }
  await say(merged);
  go(to);
  await changed();
  back(t(merged ? "merged" : "renamed", { from, to }));
}

async function newName(title, yes, value) {
  const combo = labelInput({ value, near: value ? () => [] : null, onPick: () => combo.input.form.requestSubmit() });
  const given = await ask(title, { yes, body: [combo] });
  return given?.get("label").trim();
}

$("#label-rename").addEventListener("click", (event) => busy(event.currentTarget, async () => renameTo(await newName(t("rename.title", { label }), t("rename"), label))));
$("#label-merge").addEventListener("click", (event) => busy(event.currentTarget, async () => renameTo(await newName(t("merge.into", { label }), t("merge"), ""))));

// Adds photos under a label, some at a time.
export async function teach(photos, name) {
  let added = 0;
  let there = 0;
  const rest = [...photos];
  while (rest.length) {
    const some = [rest.shift()];
    let bytes = some[0].size;
    while (rest.length && some.length < BATCH.files && bytes + rest[0].size < BATCH.bytes) {
      bytes += rest[0].size;
      some.push(rest.shift());
    }
    const told = await call("POST", at(gallery.name, "items"), { form: files(some, { label: name }) });
    added += told.ids.length;
    there += told.already_there;
  }
  await changed();
  if (added) back(t("added", { n: added, label: name }));
  else if (there) toast(t("learnt.already", { label: name }));
}

$("#add").addEventListener("change", (event) => {
  const some = [...event.target.files];
  event.target.value = "";
  if (some.length) teach(some, label).catch(failed);
});

const size = $("#size");
const resize = () => { list.style.setProperty("--size", `${size.value}px`); localStorage.setItem("shitu-size", size.value); };
size.value = localStorage.getItem("shitu-size") || "160";
size.addEventListener("input", resize);
resize();
