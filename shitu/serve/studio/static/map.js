// The gallery in two dimensions: colours are labels, near each other lies what looks alike to the model.

import { at, call, follow, itemPicture, post, showPicture, startJob } from "./api.js";
import { labelInput } from "./combobox.js";
import { $, busy, failed, h, toast } from "./dom.js";
import { changed, gallery, onGallery, undo } from "./header.js";
import { Plot } from "./plot.js";
import { t } from "./words.js";

const MOST = 5000; // entries on the map, spread evenly over a larger gallery
const SHOWN = 60; // pictures of the selection; more are counted
const tip = $("#tip");
const plot = new Plot($("#plot"), { onHover: hover, onPick: picked });

async function load() {
  picked([]);
  hover(null);
  if (!gallery.info?.entries) {
    plot.set([]);
    $("#legend").replaceChildren();
    $("#counts").textContent = t(gallery.name ? "gallery.empty" : "gallery.none");
    return;
  }
  const name = gallery.name;
  $("#counts").textContent = t("map.working");
  const result = await follow(await startJob(name, { kind: "map", most: MOST }), (job) => {
    if (job.total) $("#counts").textContent = t("of", { done: job.done, total: job.total });
  });
  if (name !== gallery.name) return;
  plot.set(result.spots);
  $("#counts").textContent = t(result.spots.length < result.entries ? "map.some" : "pictures", { n: result.spots.length, all: result.entries });
  legend(result.spots);
}

function legend(points) {
  const counts = new Map();
  for (const { label } of points) counts.set(label, (counts.get(label) ?? 0) + 1);
  $("#legend").replaceChildren(...[...counts].sort((a, b) => b[1] - a[1]).map(([label, n]) => {
    const dot = h("span.dot");
    dot.style.background = plot.colour(label);
    const button = h("button.quiet", { type: "button", "aria-pressed": "false", onclick: () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const each of $("#legend").querySelectorAll("button")) each.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(on));
      plot.highlight(on ? label : null);
    } }, dot, h("span.name", {}, label), h("small", {}, String(n)));
    return h("li", {}, button);
  }));
}

function hover(point, x = 0, y = 0) {
  tip.hidden = !point;
  if (!point) return;
  if (tip.dataset.id !== String(point.id)) {
    tip.dataset.id = point.id;
    tip.replaceChildren(showPicture(h("img.thumb", { alt: "" }), itemPicture(gallery.name, point.id), 240), h("b", {}, point.label));
  }
  const { clientWidth, clientHeight } = tip.parentElement;
  tip.style.left = `${Math.min(x + 16, Math.max(0, clientWidth - 170))}px`;
  tip.style.top = y > clientHeight / 2 ? "auto" : `${y + 16}px`;
  tip.style.bottom = y > clientHeight / 2 ? `${clientHeight - y + 16}px` : "auto";
}

function picked(points) {
  $("#picked").hidden = !points.length;
  if (!points.length) { $("#move").replaceChildren(); return; }
  $("#picked-count").textContent = t("selected", { n: points.length });
  $("#picked-items").replaceChildren(...points.slice(0, SHOWN).map((point) => h("li", {},
    h("figure", {}, showPicture(h("img.thumb", { alt: "" }), itemPicture(gallery.name, point.id), 120), h("figcaption", {}, point.label)))));
  if (points.length > SHOWN) $("#picked-items").append(h("li.hint", {}, `+ ${points.length - SHOWN}`));
  if ($("#move").children.length) return;
  const combo = labelInput({ hint: t("move.to"), onPick: move });
  $("#move").replaceChildren(combo, h("button", { type: "button", onclick: () => move(combo.input.value.trim()) }, t("move")));
}

const ids = () => plot.picked.map((point) => point.id);
const back = { action: { label: t("undo"), run: () => undo() } };

async function move(label) {
  if (!label) return;
  await busy(null, async () => {
    const some = ids();
    await call("PATCH", at(gallery.name, "items"), { json: { ids: some, label } });
    await changed();
    toast(t("moved", { n: some.length, label }), back);
  });
}

$("#remove").addEventListener("click", (event) => busy(event.currentTarget, async () => {
  const some = ids();
  await post(at(gallery.name, "items", "remove"), { ids: some });
  await changed();
  toast(t("removed", { n: some.length }), back);
}));
$("#unpick").addEventListener("click", () => plot.pick([]));
for (const name of ["lasso", "pan"]) {
  $(`#${name}`).addEventListener("click", () => {
    plot.mode = name;
    for (const each of ["lasso", "pan"]) $(`#${each}`).setAttribute("aria-pressed", String(each === name));
  });
}
$("#in").addEventListener("click", () => plot.zoom(1.5));
$("#out").addEventListener("click", () => plot.zoom(1 / 1.5));
$("#fit").addEventListener("click", () => plot.fit());
onGallery(() => load().catch(failed));
