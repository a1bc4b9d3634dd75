// Photos that the service was unsure of, one after the other: right, wrong, or what it is.

import { at, call, get, post } from "./api.js";
import { labelInput } from "./combobox.js";
import { $, busy, h, toast } from "./dom.js";
import { changed, gallery, onGallery } from "./header.js";
import { nearest } from "./objects.js";
import { Stage, decode } from "./stage.js";
import { score, t } from "./words.js";

const PAGE = 20; // photos asked for at a time
const stage = new Stage($("#stage"), { onPick: (key) => choose(Number(key), true), onDrawn: () => {} });
let photos = []; // those that were asked for, in their order, with `taught`: {region: label}
let place = 0;
let left = 0;
let bitmap = null;
let objects = []; // of the photo in sight
let chosen = 0;

const photo = () => photos[place];
const path = (one, ...rest) => ["review", encodeURIComponent(one.id), ...rest].join("/");
const where = () => ({ gallery: gallery.name });

async function more() {
  const after = photos.at(-1)?.id ?? "";
  const found = await get("review", { ...where(), after, limit: PAGE });
  if (!photos.length) left = found.total;
  photos.push(...found.photos.map((each) => ({ ...each, taught: {} })));
}

async function load() {
  photos = [];
  place = 0;
  if (!gallery.name) { nothing(t("gallery.none")); return; }
  await more();
  await show();
}

function nothing(text) {
  $("#work").hidden = true;
  $("#nothing").hidden = false;
  $("#nothing").textContent = text;
  $("#counts").textContent = "";
}

async function show() {
  if (place >= photos.length) await more();
  const one = photo();
  if (!one) { nothing(t(photos.length ? "review.done" : "review.none")); return; }
  const blob = await (await call("GET", path(one, "picture"), { raw: true, query: { ...where(), size: 1600 } })).blob();
  bitmap?.close();
  bitmap = await decode(blob);
  const { record } = one;
  objects = [...record.regions, ...(record.unnamed ?? [])];
  $("#work").hidden = false;
  $("#nothing").hidden = true;
  $("#photo-name").textContent = one.name;
  stage.show(bitmap, record.width, record.height, one.name);
  stage.set(objects.map((each, number) => ({ key: String(number), box: each.bbox })));
  const first = objects.findIndex((each) => !each.rec_docs);
  choose(Math.max(0, first), false);
  $("#question").focus({ preventScroll: true });
}

const nameOf = (number) => photo().taught[number] ?? objects[number].rec_docs ?? null;

// What is told of the photo as a whole, and the object that can be given a name.
function choose(number, focus) {
  chosen = number;
  objects.forEach((each, other) => {
    const name = nameOf(other);
    stage.dress(String(other), {
      name: name ?? "?", score: each.rec_docs && !photo().taught[other] ? score(each.rec_scores) : "", selected: other === number, kind: name ? "named" : "unnamed",
      title: name ? t("box.named", { label: name, score: score(each.rec_scores ?? 1) }) : t("box.unnamed"),
    });
  });
  const named = objects.filter((each) => each.rec_docs);
  $("#counts").textContent = t("review.left", { n: left });
  $("#question").textContent = t(named.length > 1 ? "review.are" : named.length ? "review.is" : "review.nobody");
  $("#names").replaceChildren(...named.map((each) => h("li", {}, h("b", {}, each.rec_docs), ` ${score(each.rec_scores)}`)));
  $("#right").hidden = !named.length;
  $("#wrong").firstChild.textContent = `${t(named.length ? "review.wrong" : "review.unknown")} `;
  $("#which").textContent = t("review.which", { n: number + 1, all: objects.length });
  $("#back").disabled = place === 0;
  const { matches } = objects[number];
  const near = () => [...new Map(matches.map((each) => [each.label, { label: each.label, id: each.id }])).values()];
  const combo = labelInput({ near, hint: t("review.name"), onPick: name });
  $("#near").replaceChildren(matches.length ? nearest(matches, name) : "");
  $("#naming").replaceChildren(combo, h("button", { type: "submit" }, t("learn")));
  if (focus) combo.input.focus({ preventScroll: true });
}

let working = false;

async function alone(work) {
  if (working || !photo()) return;
  working = true;
  await busy(null, work);
  working = false;
}

const judged = () => { if (!photo().verdict) { left -= 1; photo().verdict = "seen"; } };

const answer = (verdict) => alone(async () => {
  if (verdict === "right" && $("#right").hidden) return;
  await call("POST", path(photo()), { json: { verdict }, query: where() });
  judged();
  place += 1;
  await show();
});

// Learnt at once; the photo stays, since there may be more in it to name.
const name = (label) => alone(async () => {
  const one = photo();
  const told = await call("POST", path(one), { json: { verdict: "name", label, region: chosen }, query: where() });
  judged();
  one.taught[chosen] = label;
  await changed();
  if (told.ids.length) {
    const forget = () => busy(null, async () => {
      await post(at(gallery.name, "items", "remove"), { ids: told.ids });
      await changed();
    });
    toast(t("learnt", { label }), { action: { label: t("undo"), run: forget } });
  } else toast(t("learnt.already", { label }));
  const next = objects.findIndex((_, number) => !nameOf(number));
  if (next >= 0) choose(next, true);
  else { choose(chosen, false); $("#next").focus(); }
});

const go = (by) => alone(async () => {
  place = Math.max(0, place + by);
  await show();
});

$("#right").addEventListener("click", () => answer("right"));
$("#wrong").addEventListener("click", () => answer("wrong"));
$("#next").addEventListener("click", () => go(1));
$("#back").addEventListener("click", () => go(-1));
$("#other").addEventListener("click", () => choose((chosen + 1) % objects.length, true));
$("#naming").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = $("input", event.target).value.trim();
  if (label) name(label);
});
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, dialog") || event.ctrlKey || event.metaKey || event.altKey || !photo()) return;
  const doing = { r: () => answer("right"), w: () => answer("wrong"), s: () => go(1), z: () => go(-1), n: () => $("#naming input").focus() }[event.key.toLowerCase()];
  if (!doing) return;
  event.preventDefault();
  doing();
});
onGallery((why) => (why === "chosen" ? load() : undefined));
