// Photos that the service was unsure of, one object after the other: right, wrong, or what it is.

import { call, get, post } from "./api.js";
import { labelInput } from "./combobox.js";
import { $, busy, failed, h } from "./dom.js";
import { gallery, onGallery } from "./header.js";
import { nearest } from "./objects.js";
import { Stage, decode } from "./stage.js";
import { score, t } from "./words.js";

const stage = new Stage($("#stage"), { onPick: (key) => ask(Number(key)), onDrawn: () => {} });
const to = $("#to");
let waiting = []; // photos that were asked for
let next = null;
let total = 0;
let photo = null;
let bitmap = null;
let objects = []; // of the photo; one without a box is the whole photo, in which nothing was seen
let place = 0;
let last = null; // the answer that can be taken back: {photo, region}

to.value = localStorage.getItem("shitu-review-to") || "list";
to.addEventListener("change", () => localStorage.setItem("shitu-review-to", to.value));

const path = (one, ...rest) => ["review", encodeURIComponent(one.id), ...rest].join("/");

async function load() {
  waiting = [];
  if (!gallery.name) { done(t("gallery.none")); return; }
  try {
    const found = await get("review", { gallery: gallery.name, limit: 20 });
    [waiting, next, total] = [found.photos, found.next, found.total];
  } catch (error) {
    if (error.code !== "not_collecting") throw error;
    done(t("review.off"));
    return;
  }
  await show(waiting.shift() ?? null);
}

function done(text) {
  photo = null;
  $("#work").hidden = true;
  $("#nothing").hidden = false;
  $("#nothing").textContent = text;
  $("#counts").textContent = "";
}

async function following() {
  if (!waiting.length && next) {
    const found = await get("review", { gallery: gallery.name, after: next, limit: 20 });
    [waiting, next] = [found.photos, found.next];
  }
  return waiting.shift() ?? null;
}

async function show(one) {
  if (!one) { done(t("review.none")); return; }
  const blob = await (await call("GET", path(one, "picture"), { raw: true, query: { gallery: gallery.name } })).blob();
  bitmap?.close();
  bitmap = await decode(blob);
  photo = one;
  objects = [...photo.regions, ...(photo.unnamed ?? [])];
  if (!objects.length) objects = [{ bbox: [0, 0, photo.width, photo.height], matches: [], whole: true }];
  $("#work").hidden = false;
  $("#nothing").hidden = true;
  $("#photo-name").textContent = photo.image;
  stage.show(bitmap, photo.width, photo.height, photo.image);
  stage.set(objects.map((each, number) => ({ key: String(number), box: each.bbox })));
  ask(objects.findIndex((_, number) => !(String(number) in photo.answered)));
}

function ask(number) {
  place = Math.max(0, number);
  const object = objects[place];
  const label = object.rec_docs ?? null;
  objects.forEach((each, other) => stage.dress(String(other), {
    text: each.rec_docs ? `${each.rec_docs} ${score(each.rec_scores)}` : "?", selected: other === place,
    title: each.rec_docs ? t("box.named", { label: each.rec_docs, score: score(each.rec_scores) }) : t("box.unnamed"),
    kind: each.rec_docs ? "named" : "unnamed",
  }));
  $("#counts").textContent = t("review.left", { n: total });
  $("#which").textContent = t("review.which", { n: place + 1, all: objects.length });
  $("#question").textContent = label ? t("review.is", { label, score: score(object.rec_scores) }) : t(object.whole ? "review.whole" : "review.what");
  $("#right").hidden = !label;
  $("#wrong").firstChild.textContent = `${t(label ? "review.wrong" : "review.unknown")} `;
  const near = () => [...new Map(object.matches.map((each) => [each.label, { label: each.label, id: each.id }])).values()];
  const combo = labelInput({ near, hint: t("review.name"), onPick: (name) => answer("name", name) });
  $("#near").replaceChildren(object.matches.length ? nearest(object.matches, (name) => answer("name", name)) : "");
  $("#naming").replaceChildren(combo, h("button", { type: "submit" }, t("learn")));
  $("#back").disabled = !last;
  $("#question").focus({ preventScroll: true });
}

let working = false;

async function answer(verdict, label = undefined) {
  if (working || !photo || (verdict === "right" && $("#right").hidden)) return;
  working = true;
  await busy(null, async () => {
    const told = await post(path(photo), { gallery: gallery.name, region: place, verdict, label, to: to.value });
    photo.answered[place] = verdict;
    last = { photo, region: place };
    total = told.left;
    const open = objects.findIndex((_, number) => !(String(number) in photo.answered));
    if (open >= 0) ask(open);
    else await show(await following());
  });
  working = false;
}

async function back() {
  if (!last || working) return;
  working = true;
  await busy(null, async () => {
    const told = await post(path(last.photo, "undo"), { gallery: gallery.name, region: last.region });
    delete last.photo.answered[last.region];
    if (photo && photo !== last.photo) waiting.unshift(photo);
    const { photo: one, region } = last;
    last = null;
    total = told.left;
    if (photo !== one) await show(one);
    ask(region);
  });
  working = false;
}

$("#right").addEventListener("click", () => answer("right"));
$("#wrong").addEventListener("click", () => answer("wrong"));
$("#skip").addEventListener("click", () => answer("skip"));
$("#back").addEventListener("click", back);
$("#naming").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = $("input", event.target).value.trim();
  if (label) answer("name", label);
});
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  const doing = { r: () => answer("right"), w: () => answer("wrong"), s: () => answer("skip"), z: back, n: () => $("#naming input").focus() }[event.key.toLowerCase()];
  if (!doing || !photo) return;
  event.preventDefault();
  doing();
});
onGallery((why) => { if (why === "chosen") { last = null; return load().catch(failed); } return undefined; });
