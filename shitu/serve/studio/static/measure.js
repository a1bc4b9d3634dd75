// How well things are named: evaluate and calibrate on photos whose answers are known.

import { at, call, cancelJob, follow, startJob } from "./api.js";
import { $, busy, failed, h } from "./dom.js";
import { gallery, onGallery } from "./header.js";
import { t } from "./words.js";

const form = $("#measure");
const frame = $("#page");

async function start(kind) {
  const source = new FormData(form).get("source");
  const options = { kind, false_accept: Number($("#false-accept").value) };
  if (source !== "file") return startJob(gallery.name, { ...options, list: source });
  const file = $("#file").files[0];
  if (!file) { $("#file").click(); return null; }
  const body = new FormData();
  for (const [key, value] of Object.entries(options)) body.append(key, String(value));
  body.append("file", file, file.name);
  const answer = await call("POST", at(gallery.name, "jobs"), { form: body });
  return answer.job ?? answer;
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
    await show(result, job);
  } finally {
    $("#job").hidden = true;
  }
}

async function show(result, job) {
  const figures = result.figures ?? [];
  $("#figures").replaceChildren(...figures.map((each) => h("div.card.figure", {},
    h("small", {}, each.name), h("b", {}, typeof each.value === "number" ? each.value.toLocaleString(document.documentElement.lang, { maximumFractionDigits: 3 }) : String(each.value)),
    each.text ? h("p.hint", {}, each.text) : null)));
  $("#result").hidden = false;
  const report = $("#report");
  report.hidden = frame.hidden = !result.report;
  if (!result.report) return;
  const blob = await (await call("GET", `jobs/${encodeURIComponent(job.id)}/report`, { raw: true })).blob();
  URL.revokeObjectURL(report.href);
  report.href = frame.src = URL.createObjectURL(blob);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.submitter, () => run(event.submitter.value));
});
$("#file").addEventListener("change", () => { form.elements.source.value = "file"; });
onGallery(() => { for (const button of form.querySelectorAll("button")) button.disabled = !gallery.info?.entries; });
