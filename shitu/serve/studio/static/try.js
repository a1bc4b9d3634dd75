// The page where a photo is dropped, its boxes are named, and what is named is known from then on.

import { at, post } from "./api.js";
import { photograph } from "./camera.js";
import { labelInput } from "./combobox.js";
import { $, busy, failed, h, takeFiles, toast } from "./dom.js";
import { changed, gallery, onGallery, undo } from "./header.js";
import { accepts, nearest, recognise, scale } from "./objects.js";
import { Stage, crop, decode } from "./stage.js";
import { score, t } from "./words.js";

const photos = []; // {file, name, state, seen, drawn, error, thumb, waiting}: `seen` is what recognise() told, `waiting` who waits for it
let current = null;
let bitmap = null; // of the current photo alone: one takes 50 MB
let selected = null; // the key of an object
let threshold = 0;

const list = $("#objects");
const slider = $("#threshold");
const stage = new Stage($("#stage"), { onPick: (key) => select(key, true), onDrawn: drawn, onMode: drawMode });

// --- photos

function add(files) {
  const images = files.filter((file) => file.type.startsWith("image/") || /\.(heic|heif|avif|tiff?|bmp)$/i.test(file.name));
  if (images.length < files.length) toast(t("try.noimage", { n: files.length - images.length }), { kind: "bad" });
  if (!images.length) return;
  const added = images.map((file) => ({ file, name: file.name || t("photo"), state: "waiting", seen: null, drawn: [], waiting: [] }));
  photos.push(...added);
  $("#start").hidden = true;
  $("#work").hidden = false;
  show(added[0]).catch(failed);
}

async function show(photo) {
  if (photo.state === "stale") photo.state = "waiting";
  current = photo;
  selected = null;
  strip();
  const decoded = await decode(photo.file);
  if (current !== photo) { decoded?.close(); return; }
  bitmap?.close();
  bitmap = decoded;
  if (photo.seen) render();
  else {
    stage.set([]);
    if (bitmap) stage.show(bitmap, bitmap.width, bitmap.height, photo.name);
    list.replaceChildren();
  }
  status();
  pump();
}

let working = false;

// One photo at a time: the one that is looked at, then the others in their order.
async function pump() {
  if (working || !gallery.name) return;
  const photo = current?.state === "waiting" ? current : photos.find((each) => each.state === "waiting");
  if (!photo) return;
  working = true;
  photo.state = "working";
  status();
  try {
    photo.seen = await recognise(photo.file, photo.drawn);
    photo.error = null;
    if (photo.state === "working") photo.state = "done"; // else the gallery changed meanwhile
  } catch (error) {
    photo.error = error.message;
    photo.state = "failed";
    const again = () => { photo.state = "waiting"; pump(); };
    if (photo === current) toast(error.message, { kind: "bad", action: { label: t("again"), run: again } });
  }
  working = false;
  if (photo === current && photo.seen) render();
  status();
  strip();
  if (photo.state !== "waiting") release(photo);
  pump();
}

function release(photo) {
  for (const go of photo.waiting.splice(0)) go();
}

// Resolves when the photo has been recognised by the gallery as it is now, or nobody looks at it any more.
function settled(photo) {
  if (photo.state !== "waiting" && photo.state !== "working") return Promise.resolve();
  return new Promise((resolve) => { photo.waiting.push(resolve); });
}

// The gallery is another now: the photo in sight is recognised anew, another when it is looked at.
function stale() {
  for (const photo of photos) {
    photo.state = photo === current || !photo.seen ? "waiting" : "stale";
    if (photo.state === "stale") release(photo);
  }
  pump();
}

// --- what is shown of the current photo

const isNamed = (object) => object.score !== null && object.label !== "" && accepts(gallery.info, object.score, threshold);

function render() {
  const { seen } = current;
  const typing = form.contains(document.activeElement) && form.dataset.key === selected;
  stage.show(bitmap, seen.width, seen.height, current.name);
  stage.set(seen.objects);
  list.replaceChildren(...seen.objects.map(card));
  if (!seen.objects.some((each) => each.key === selected)) selected = null;
  dress();
  if (selected) openForm(false, { typing });
}

function card(object) {
  const head = h("button.head", { type: "button", onclick: () => select(object.key, true) },
    crop(bitmap, object.box, 112, current.seen.width), h("span.name"), h("small.score"));
  const gone = object.drawn && h("button.close", { type: "button", title: t("box.erase"), "aria-label": t("box.erase"), onclick: () => erase(object) }, "×");
  return h("li.object", { "data-key": object.key }, head, gone,
    object.matches.length ? nearest(object.matches, (label) => suggest(object.key, label)) : null);
}

// Names, colours and counts: all that depends on the slider and on what is selected. Asks nobody.
function dress() {
  let named = 0;
  const objects = current?.seen?.objects ?? [];
  for (const object of objects) {
    const known = isNamed(object);
    named += known;
    const shown = known ? object.label : t("unnamed");
    const chosen = object.key === selected;
    stage.dress(object.key, {
      name: known ? object.label : "?", score: known ? score(object.score) : "", selected: chosen,
      title: known ? t("box.named", { label: object.label, score: score(object.score) }) : t("box.unnamed"),
      kind: known ? "named" : object.drawn ? "drawn" : "unnamed",
    });
    const element = $(`[data-key="${object.key}"]`, list);
    element.classList.toggle("selected", chosen);
    element.classList.toggle("unnamed", !known);
    $(".name", element).textContent = shown;
    $(".score", element).textContent = object.score === null ? "" : score(object.score);
    $(".head", element).setAttribute("aria-expanded", String(chosen));
  }
  $("#summary").textContent = current?.state === "done"
    ? t(objects.length ? "try.summary" : "try.nothing", { named, unnamed: objects.length - named }) : "";
}

function status() {
  const words = { waiting: "try.working", working: "try.working" }[current?.state];
  const text = !gallery.name ? t("gallery.none") : current?.error ?? (words && !current.seen ? t(words) : "");
  $("#state").textContent = text;
  $("#state").hidden = !text;
  $("#state").classList.toggle("bad", Boolean(current?.error));
  $("#work").classList.toggle("busy", Boolean(words));
  $("#work").setAttribute("aria-busy", String(Boolean(words)));
  $("#learnt-none").hidden = !(gallery.info && gallery.info.entries === 0 && current);
  if (current?.state === "done") dress();
}

function strip() {
  const element = $("#strip");
  element.hidden = photos.length < 2;
  if (element.hidden) return;
  element.replaceChildren(...photos.map((photo) => {
    if (!photo.thumb) {
      photo.thumb = h("canvas.thumb", { width: 96, height: 96, "aria-hidden": "true" });
      decode(photo.file).then((found) => {
        if (!found) return;
        const side = Math.min(found.width, found.height);
        photo.thumb.getContext("2d").drawImage(found, (found.width - side) / 2, (found.height - side) / 2, side, side, 0, 0, 96, 96);
        found.close();
      });
    }
    return h("button", { type: "button", "aria-current": photo === current ? "true" : undefined, title: photo.name,
      "aria-label": t("photo.show", { name: photo.name }), onclick: () => show(photo).catch(failed) },
    photo.thumb, photo.state === "failed" ? h("span.badge.bad", {}, "!") : null);
  }));
}

// --- naming

function select(key, focus) {
  selected = selected === key && !focus ? null : key;
  dress();
  openForm(focus);
}

const form = h("form.teach", { onsubmit: (event) => { event.preventDefault(); learn($("input", form).value.trim()); } });

function find(key) { return current?.seen?.objects.find((each) => each.key === key); }

// Below the selected card; what is being typed stays when the photo has been recognised anew.
function openForm(focus, { value, typing = false } = {}) {
  const object = find(selected);
  form.remove();
  if (!object) return;
  const element = $(`[data-key="${object.key}"]`, list);
  if (!typing) {
    const key = form.dataset.key = object.key;
    const near = () => [...new Map(find(key)?.matches.map((each) => [each.label, { label: each.label, id: each.id }])).values()];
    const combo = labelInput({ value: value ?? (isNamed(object) ? object.label : ""), near, onPick: learn });
    form.replaceChildren(combo, h("button.main", { type: "submit" }, t("learn")));
  }
  $(".head", element).after(form);
  if (focus || typing) {
    const input = $("input", form);
    const [start, end] = [input.selectionStart, input.selectionEnd];
    input.focus({ preventScroll: true });
    if (typing) input.setSelectionRange(start, end);
  }
  reveal(element);
}

// In the panel where that scrolls by itself; the photo stays where it is.
function reveal(element) {
  const panel = list.closest(".panel");
  if (panel.scrollHeight <= panel.clientHeight) { element.scrollIntoView({ block: "nearest" }); return; }
  const inside = element.getBoundingClientRect();
  const top = $(".threshold", panel).getBoundingClientRect().bottom + 12; // which stays where it is
  // At the top, so that there is room for suggestions below.
  if (inside.bottom > panel.getBoundingClientRect().bottom || inside.top < top) panel.scrollBy({ top: inside.top - top });
}

// A picture beside the box was clicked: that is probably its name; Enter says so.
function suggest(key, label) {
  selected = key;
  dress();
  openForm(false, { value: label });
  $("button.main", form).focus();
}

async function learn(label) {
  const photo = current;
  const object = find(selected);
  if (!object || !label || form.getAttribute("aria-busy")) return;
  form.setAttribute("aria-busy", "true");
  await busy($("button.main", form), async () => {
    const told = await teach(photo, object, label);
    await after(photo, object.key);
    if (!told.ids?.length) toast(t("learnt.already", { label }));
    else {
      // What was known by another name goes back to that; else exactly these entries go, whatever others changed since.
      const run = () => (told.relabelled ? undo() : forget(photo, told.ids, label));
      toast(t(told.relabelled ? "learnt.moved" : "learnt", { label }), { action: { label: t("undo"), run } });
    }
  });
  form.removeAttribute("aria-busy");
}

// The server keeps an answer for some minutes; where it forgot this one, the photo is shown to it again.
async function teach(photo, object, label) {
  const say = () => post(at(gallery.name, "items"), { label, answer: photo.seen.answer, bbox: object.box });
  try {
    return await say();
  } catch (error) {
    if (error.status !== 404 && error.status !== 410) throw error;
    photo.seen = await recognise(photo.file, photo.drawn);
    return say();
  }
}

// What is said of the photo now; the others follow when they are looked at.
async function after(photo, key) {
  await changed();
  await settled(photo);
  if (photo === current) { selected = key; render(); stage.focus(key); }
}

async function forget(photo, ids, label) {
  await busy(null, async () => {
    await post(at(gallery.name, "items", "remove"), { ids });
    await after(photo, selected);
    toast(t("forgotten", { label }));
  });
}

// --- boxes by hand

function drawn(box) {
  if (!current?.seen) return;
  const key = box.join(",");
  if (!current.seen.objects.some((each) => each.key === key)) {
    current.drawn.push(box);
    current.seen.objects.push({ key, box, matches: [], label: "", score: null, drawn: true });
  }
  selected = key;
  render();
  openForm(true);
  current.state = "waiting"; // what the gallery has near it comes later; its name can be typed now
  pump();
}

function erase(object) {
  current.drawn = current.drawn.filter((box) => box.join(",") !== object.key);
  current.seen.objects = current.seen.objects.filter((each) => each !== object);
  selected = null;
  render();
}

function drawMode(on) {
  const button = $("#draw");
  button?.setAttribute("aria-pressed", String(on));
  $("#draw-help").hidden = !on;
}

// --- controls

function setThreshold(value) {
  threshold = value;
  const { threshold: standard } = scale(gallery.info);
  slider.value = String(value);
  slider.setAttribute("aria-valuetext", score(value));
  $("#threshold-value").textContent = score(value);
  $("#threshold-reset").hidden = Math.abs(value - standard) < 1e-9;
  if (current?.seen) dress();
}

slider.addEventListener("input", () => setThreshold(Number(slider.value)));
$("#threshold-reset").addEventListener("click", () => { setThreshold(scale(gallery.info).threshold); slider.focus(); });
for (const input of document.querySelectorAll("input.photos")) {
  input.addEventListener("change", () => { add([...input.files]); input.value = ""; });
}
for (const button of document.querySelectorAll("button.camera")) {
  button.addEventListener("click", () => busy(button, async () => {
    const file = await photograph();
    if (file) add([file]);
  }));
}
$("#draw").addEventListener("click", (event) => {
  if (stage.drawing) stage.leave();
  else stage.draw(event.detail === 0); // 0: pressed by keyboard
});
$("#whole").addEventListener("click", () => current?.seen && drawn([0, 0, current.seen.width, current.seen.height]));
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, dialog, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && stage.drawing) stage.leave();
  else if (event.key === "b" && current?.seen) stage.draw(true);
  else if (event.key === "n" && current?.seen) {
    const open = current.seen.objects.filter((each) => !isNamed(each));
    const place = open.findIndex((each) => each.key === selected);
    if (open.length) { event.preventDefault(); select(open[(place + 1) % open.length].key, true); }
  }
});
takeFiles(add);

onGallery((why) => {
  if (why === "chosen") {
    const { most, step, threshold: standard, greater } = scale(gallery.info);
    Object.assign(slider, { min: 0, max: most, step });
    $("#threshold-words").textContent = t(greater ? "threshold" : "threshold.distance");
    setThreshold(standard);
    for (const photo of photos) photo.seen = null;
    stage.set([]);
    list.replaceChildren();
  }
  stale();
  status();
});
