// Entries that may be mislabelled, there twice, or strangers in their label: each is kept, moved or removed.

import { at, call, get, itemPicture, post, showPicture } from "./api.js";
import { busy, h, toast } from "./dom.js";
import { changed, gallery, undo } from "./header.js";
import { scale } from "./objects.js";
import { score, t } from "./words.js";

// What the last search for doubtful entries found, also one that another page asked for; ids are never used again.
export async function lastDoubts(name) {
  const { jobs } = await get("jobs");
  const last = jobs.find((job) => job.kind === "doubtful" && job.gallery === name && job.state === "done");
  return last?.result.doubtful ?? [];
}

// "Keep" is remembered here, by gallery and entry: the entry itself is as it was.
const KEPT = () => `shitu-kept-${gallery.name}`;
const kept = () => new Set(JSON.parse(localStorage.getItem(KEPT()) || "[]"));

// `quiet`: nothing is said where there are none.
export function showDoubts(element, entries, quiet = false) {
  const fine = kept();
  const sign = scale(gallery.info).greater ? 1 : -1;
  const rows = entries.filter((each) => !fine.has(each.id)).sort((a, b) => sign * (b.score - a.score)).map((each) => row(element, each));
  if (!rows.length && quiet) { element.replaceChildren(); return rows; }
  element.replaceChildren(h("p.hint", {}, t(rows.length ? "doubtful.text" : "doubtful.none", { n: rows.length })), h("ul.doubts", {}, rows));
  return rows;
}

function picture({ id, label }) {
  return h("figure", {}, showPicture(h("img.thumb", { alt: "" }), itemPicture(gallery.name, id), 240), h("figcaption", {}, label));
}

function row(element, entry) {
  const other = { id: entry.other_id, label: entry.other_label };
  const done = async (button, work, words) => busy(button, async () => {
    await work();
    item.remove();
    if (words) {
      await changed();
      toast(words, { action: { label: t("undo"), run: () => undo() } });
    }
  });
  const keep = () => localStorage.setItem(KEPT(), JSON.stringify([...kept(), entry.id]));
  const move = () => call("PATCH", at(gallery.name, "items"), { json: { ids: [entry.id], label: other.label } });
  const remove = () => post(at(gallery.name, "items", "remove"), { ids: [entry.id] });
  const button = (name, work, words, values = {}) => h("button", { type: "button", onclick: (event) => done(event.currentTarget, work, words && t(words, { n: 1, ...values })) }, t(name, values));
  const item = h("li.card", { "data-id": entry.id },
    picture(entry), h("span.arrow", { "aria-hidden": "true" }, "↔"), picture(other),
    h("div.why", {},
      h("p", {}, t(`doubt.${entry.kind}`, { label: entry.label, other: other.label, score: score(entry.score) })),
      h("div.row", {},
        button("doubt.keep", keep),
        other.label !== entry.label ? button("doubt.move", move, "moved", { label: other.label }) : null,
        button("doubt.remove", remove, "removed"))));
  return item;
}
