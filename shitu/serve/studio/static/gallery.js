// The labels of a gallery as a grid, and what is done with the gallery as a whole. One label: label.js.

import { at, call, cancelJob, files, follow, get, itemPicture, showPicture, startJob, token } from "./api.js";
import { labelInput } from "./combobox.js";
import { $, anchor, ask, busy, debounce, failed, field, h, takeFiles, toast } from "./dom.js";
import { showDoubts } from "./doubts.js";
import { changed, choose, create, gallery, onGallery, rename, undo } from "./header.js";
import { openLabel, teach } from "./label.js";
import { root, t } from "./words.js";

const PAGES = [120, 1000]; // labels asked for at first, and then at a time: 5,000 are scrolled through in six questions
const AT_ONCE = 200; // files that the server takes for one job
const grid = $("#grid");
const sort = $("#sort");
const search = $("#search");
let next = { after: "", done: true };
let round = 0; // answers to an earlier question are too late

const href = (label) => `?${new URLSearchParams({ g: gallery.name, ...(label === null ? {} : { label }) })}`;

// Of the last evaluation of this gallery: label -> share of its pictures that are named rightly. Null where called off.
async function recalls() {
  const { jobs } = await get("jobs");
  const measured = jobs.find((job) => job.kind === "evaluate" && job.gallery === gallery.name && job.state === "done");
  const result = measured?.result ?? (await work(t("evaluate"), await startJob(gallery.name, { kind: "evaluate" })));
  return result && new Map(result.per_class.map((each) => [each.label, each.recall1]));
}

// All labels at once: the server does not know this order.
async function worst(mine) {
  const found = await recalls();
  if (mine !== round) return;
  if (!found) { sort.value = "count"; reload().catch(failed); return; }
  const labels = [];
  for (let after = ""; after !== null;) {
    const page = await get(at(gallery.name, "labels"), { text: search.value.trim(), after, limit: PAGES[1] });
    labels.push(...page.labels);
    after = page.next;
  }
  if (mine !== round) return;
  for (const each of labels) each.recall = found.get(each.label);
  labels.sort((a, b) => (a.recall ?? 2) - (b.recall ?? 2));
  filled({ labels, next: null, total: labels.length });
}

function card(each) {
  return h("li", {}, h("a.label", { href: href(each.label), onclick: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.replaceState({ scroll: scrollY }, "");
    history.pushState({ within: true }, "", href(each.label));
    view().catch(failed);
  } },
  showPicture(h("img.thumb", { alt: "" }), itemPicture(gallery.name, each.newest), 240),
  h("span.name", {}, each.label), h("small", {}, t("pictures", { n: each.count })),
  each.recall === undefined ? null : h("small", {}, t("recall", { share: Math.round(100 * each.recall) }))));
}

async function more() {
  if (next.done) return;
  const mine = round;
  next.done = true; // until the answer is there
  if (sort.value === "recall") { await worst(mine); return; }
  const found = await get(at(gallery.name, "labels"), { text: search.value.trim(), sort: sort.value, after: next.after, limit: PAGES[next.after ? 1 : 0] });
  if (mine !== round) return;
  filled(found);
  if (end.getBoundingClientRect().top < innerHeight * 2) await more(); // a tall window
}

function filled(found) {
  grid.append(...found.labels.map(card));
  next = { after: found.next, done: !found.next };
  const { total } = found;
  $("#counts").textContent = search.value.trim() ? t("labels.found", { n: total })
    : `${t("labels.n", { n: total })}, ${t("pictures", { n: gallery.info.entries })}`;
  tellEmpty();
}

function tellEmpty() {
  $("#empty").hidden = grid.children.length > 0;
  $("#empty").textContent = search.value.trim() ? t("search.none") : t("gallery.start");
}

const end = h("div.end", { "aria-hidden": "true" });
grid.after(end);
new IntersectionObserver((seen) => { if (seen.some((each) => each.isIntersecting)) more().catch(failed); },
  { rootMargin: "800px" }).observe(end);

// From the top, as far down as what was shown before.
async function reload(shown = 0) {
  round += 1;
  next = { after: "", done: false };
  const before = scrollY;
  if (!shown) grid.replaceChildren();
  const old = [...grid.children];
  await more();
  for (const each of old) each.remove();
  tellEmpty();
  while (grid.children.length < shown && !next.done) await more();
  if (shown) scrollTo({ top: before });
}

async function view() {
  const label = new URL(location.href).searchParams.get("label");
  $("#labels").hidden = label !== null || !gallery.name;
  $("#label").hidden = label === null || !gallery.name;
  $("#gallery-name").textContent = gallery.name || t("gallery.none");
  document.title = `${label ?? gallery.name} · shitu`;
  if (!gallery.name) return;
  if (label !== null) { await openLabel(label); return; }
  await reload(grid.children.length);
}

async function back() {
  await view();
  if (!$("#labels").hidden) scrollTo({ top: history.state?.scroll ?? 0 });
}

anchor($("#menu"), $("#more"));
addEventListener("popstate", () => back().catch(failed));
$("#back").addEventListener("click", (event) => {
  event.preventDefault();
  if (history.state?.within) { history.back(); return; }
  history.pushState({}, "", href(null));
  view().catch(failed);
});
search.addEventListener("input", debounce(() => reload().catch(failed)));
sort.addEventListener("change", () => { sessionStorage.setItem("shitu-sort", sort.value); reload().catch(failed); });
sort.value = sessionStorage.getItem("shitu-sort") || "count";

// --- new things, dropped here: all of them one label

async function teachNew(photos) {
  const combo = labelInput({ onPick: () => combo.input.form.requestSubmit() });
  const given = await ask(t("teach.title", { n: photos.length }), { yes: t("learn"), body: [combo] });
  const label = given?.get("label").trim();
  if (label) await teach(photos, label);
}
$("#teach").addEventListener("change", (event) => {
  const photos = [...event.target.files];
  event.target.value = "";
  teachNew(photos).catch(failed);
});
takeFiles((taken) => {
  const label = new URL(location.href).searchParams.get("label");
  const archive = taken.length === 1 && /\.zip$/i.test(taken[0].name);
  (archive ? importFile(taken[0]) : label === null ? teachNew(taken) : teach(taken, label)).catch(failed);
});

// --- long work

// Shows a job until it ends; resolves to its result, or undefined where it was cancelled or failed.
async function work(title, job) {
  const bar = h("progress", { max: 1, "aria-label": title });
  const words = h("span.hint");
  const stop = h("button", { type: "button", onclick: () => cancelJob(job.id).catch(failed) }, t("cancel"));
  $("#job").replaceChildren(h("b", {}, title), bar, words, stop);
  $("#job").hidden = false;
  try {
    return await follow(job, (now) => {
      if (now.total) { bar.max = now.total; bar.value = now.done; words.textContent = t("of", { done: now.done, total: now.total }); }
    });
  } catch (error) {
    failed(error);
    return undefined;
  } finally {
    $("#job").hidden = true;
  }
}

async function run(kind) {
  const result = await work(t(kind), await startJob(gallery.name, { kind }));
  if (result === undefined) return;
  await changed();
  const problems = result.problems ?? [];
  toast(problems.length ? problems.join(" · ") : t(`${kind}.done`), { kind: problems.length ? "bad" : "" });
}

// Each form is a job and one change. What was taken in is told at the end.
async function importForms(forms) {
  let [added, wrong] = [0, 0];
  for (const form of forms) {
    form.append("kind", "import");
    const { job } = await call("POST", at(gallery.name, "jobs"), { form });
    const result = await work(t("import"), job);
    if (!result) break;
    added += result.added;
    wrong += result.failed_count;
  }
  await changed();
  const action = added && forms.length === 1 ? { label: t("undo"), run: () => undo() } : undefined;
  toast(t("imported", { n: added }), { action });
  if (wrong) toast(t("imported.failed", { n: wrong }), { kind: "bad" });
}

const importFile = (file) => importForms([files([file])]);

// A folder for each thing, called as the thing is: what `shitu build-gallery FOLDER` reads.
async function importFolder(chosen) {
  const images = chosen.filter((each) => each.type.startsWith("image/"));
  if (!images.length) { toast(t("try.noimage", { n: chosen.length }), { kind: "bad" }); return; }
  const forms = [];
  for (let start = 0; start < images.length; start += AT_ONCE) {
    const form = new FormData();
    const lines = images.slice(start, start + AT_ONCE).map((file, number) => {
      const parts = file.webkitRelativePath.split("/");
      const name = `${number}-${file.name}`; // two folders may have a 1.jpg each
      form.append("files", file, name);
      return `${name}\t${parts.length > 2 ? parts[1] : parts[0]}`;
    });
    form.append("list", lines.join("\n"));
    forms.push(form);
  }
  await importForms(forms);
}

$("#folder").addEventListener("change", (event) => importFolder([...event.target.files]).catch(failed).finally(() => { event.target.value = ""; }));
$("#archive").addEventListener("change", (event) => importFile(event.target.files[0]).catch(failed).finally(() => { event.target.value = ""; }));

// --- the gallery as a whole

async function download() {
  if (!token()) { location.href = `${root}/v1/${at(gallery.name, "export")}`; return; }
  const blob = await (await call("GET", at(gallery.name, "export"), { raw: true })).blob();
  const link = h("a", { href: URL.createObjectURL(blob), download: `${gallery.name}.zip` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const DOINGS = {
  folder: () => $("#folder").click(),
  import: () => $("#archive").click(),
  export: download,
  verify: () => run("verify"),
  compact: () => run("compact"),
  create,
  rename: async () => {
    const given = await ask(t("gallery.rename"), { yes: t("rename"), body: [field(t("name"), { name: "name", value: gallery.name, required: true, maxlength: 64 })] });
    if (given) await rename(gallery.name, given.get("name").trim());
  },
  delete: async () => {
    const { name, info } = gallery;
    const text = t("gallery.delete.text", { name, n: info.entries });
    const given = await ask(t("gallery.delete"), { text, yes: t("delete"), danger: true, body: [field(t("gallery.delete.type"), { name: "name", required: true, pattern: name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&") })] });
    if (!given || given.get("name") !== name) return;
    await call("DELETE", at(name));
    const { galleries } = await get("galleries");
    await choose(galleries[0]?.name ?? "");
    toast(t("gallery.deleted", { name }));
  },
};
for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => { $("#menu").hidePopover(); busy(button, DOINGS[button.dataset.do]); });
}

function hideDoubts(hide = true) {
  $("#doubtful").setAttribute("aria-pressed", String(!hide));
  for (const element of [grid, end]) element.hidden = !hide;
  $("#doubts").hidden = hide;
  $("#doubts").replaceChildren();
}

$("#doubtful").addEventListener("click", (event) => busy(event.currentTarget, async () => {
  const on = $("#doubts").hidden;
  hideDoubts(!on);
  if (!on) return;
  const result = await work(t("doubtful"), await startJob(gallery.name, { kind: "doubtful" }));
  if (result) showDoubts($("#doubts"), result.doubtful);
}));

let known = "";
onGallery(async (why) => {
  const here = new URL(location.href);
  if (why === "chosen" && known !== "" && known !== gallery.name && here.searchParams.has("label")) {
    here.searchParams.delete("label");
    history.replaceState({}, "", here);
  }
  if (why === "chosen") { grid.replaceChildren(); hideDoubts(); }
  known = gallery.name;
  const managed = gallery.info?.managed !== false;
  for (const name of ["rename", "delete"]) $(`[data-do="${name}"]`).disabled = !managed || !gallery.name;
  await view();
});
