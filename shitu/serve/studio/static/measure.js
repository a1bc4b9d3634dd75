// How well things are named: evaluate and calibrate on photos whose answers are known.

import { at, call, cancelJob, follow, startJob, token } from "./api.js";
import { $, busy, failed, h } from "./dom.js";
import { gallery, onGallery } from "./header.js";
import { root, score, t } from "./words.js";

const form = $("#measure");
const frame = $("#page");
const percent = (value) => value.toLocaleString(document.documentElement.lang, { style: "percent", maximumFractionDigits: 1 });

async function start(kind) {
  const source = new FormData(form).get("source");
  const options = { kind, false_accept: Number($("#false-accept").value) };
  if (source === "gallery") return startJob(gallery.name, options);
  if (source === "review") return startJob(gallery.name, { ...options, list: "review" });
  const file = $("#file").files[0];
  if (!file) { $("#file").click(); return null; }
  const body = new FormData();
  for (const [key, value] of Object.entries(options)) body.append(key, String(value));
  body.append("files", file, file.name);
  return (await call("POST", at(gallery.name, "jobs"), { form: body })).job;
}

async function run(kind) {
  const job = await start(kind);
  if (!job) return;
  const bar = h("progress", { "aria-label": t(kind) });
  const words = h("span.hint");
  $("#job").replaceChildren(h("b", {}, t(kind)), bar, words,
    h("button", { type: "button", onclick: () => cancelJob(job.id).catch(failed) }, t("cancel")));
  $("#job").hidden = false;
  $("#result").hidden = true;
  try {
    const result = await follow(job, (now) => {
      if (!now.total) return;
      bar.max = now.total;
      bar.value = now.done;
      words.textContent = t("of", { done: now.done, total: now.total });
    });
    await show(kind, result, job);
  } finally {
    $("#job").hidden = true;
  }
}

const figure = (key, value, more = {}) => h("div.card.figure", {}, h("small", {}, t(`figure.${key}`)), h("b", {}, value), h("p.hint", {}, t(`figure.${key}.text`, more)));

function evaluated(found) {
  const { at_threshold: named, recall, open_set: open } = found;
  const threshold = score(named.threshold);
  return [
    figure("right", percent(named.named_right), { threshold }), figure("wrong", percent(named.named_wrong), { threshold }),
    figure("not", percent(named.not_named), { threshold }),
    named.unknown_named === null ? null : figure("unknown", percent(named.unknown_named), { threshold }),
    figure("recall", percent(recall["1"]), { five: percent(recall["5"]) }),
    open ? figure("apart", score(open.auroc)) : null,
  ];
}

function calibrated(found) {
  const set = found.settings["IndexProcess.score_thres"] ?? found.settings["IndexProcess.hamming_radius"];
  const { before, after, cross_validation: cross } = found;
  return [
    set ? figure("threshold", String(set.after), { before: String(set.before), after: String(set.after) }) : null,
    figure("after.recall", percent(after.recall), { before: percent(before.recall) }),
    figure("after.false", percent(after.false_accept_rate), { before: percent(before.false_accept_rate) }),
    cross ? figure("cross", percent(cross.recall), { rate: percent(cross.false_accept_rate) }) : null,
  ];
}

async function show(kind, found, job) {
  const figures = kind === "evaluate" ? evaluated(found) : calibrated(found);
  $("#figures").replaceChildren(...figures.filter(Boolean));
  $("#warnings").replaceChildren(...(found.warnings ?? []).map((each) => h("li", {}, each)));
  $("#result").hidden = false;
  await showReport(Boolean(found.report), job);
}

// The page brings its own rules of what it may do. A frame sends no token: then it is a file to keep.
async function showReport(there, job) {
  const report = $("#report");
  const path = `jobs/${encodeURIComponent(job.id)}/report`;
  report.hidden = !there;
  frame.hidden = !there || Boolean(token());
  if (!there) return;
  if (!token()) { report.href = frame.src = `${root}/v1/${path}`; return; }
  const blob = await (await call("GET", path, { raw: true })).blob();
  report.href = URL.createObjectURL(blob);
  report.download = "report.html";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.submitter, () => run(event.submitter.value));
});
$("#file").addEventListener("change", () => { form.elements.source.value = "file"; });
onGallery(() => { for (const button of form.querySelectorAll("button")) button.disabled = !gallery.info?.entries; });
