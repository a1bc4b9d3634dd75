// What was seen in a photo, as the pages show it; whether something has a name is decided here, at once, by the slider.

import { at, call, files, itemPicture, showPicture } from "./api.js";
import { h } from "./dom.js";
import { gallery } from "./header.js";
import { score, t } from "./words.js";

// How the scores of the gallery read: IP is nearer the greater it is, L2 and hamming the smaller.
export function scale(info) {
  const { dist_type: measure = "IP", score_thres: threshold = 0.4 } = info?.settings ?? {};
  const most = { IP: 1, L2: 2 }[measure] ?? info.info.dimension;
  return { greater: measure === "IP", most, step: most > 2 ? 1 : 0.01, threshold };
}

export const accepts = (info, value, threshold) => (scale(info).greater ? value >= threshold : value <= threshold);

const keyOf = (box) => box.join(",");

// {key, box, label, score, matches, drawn}: `label` is the one that the nearest entries give it, near enough or not.
function object(region, drawn = false) {
  return {
    key: keyOf(region.bbox), box: region.bbox, matches: region.matches ?? [], drawn,
    label: region.rec_docs ?? region.matches?.[0]?.label ?? "",
    score: region.rec_scores ?? region.matches?.[0]?.score ?? null,
  };
}

// Asks for a photo: {answer, width, height, objects}. Boxes drawn by hand are asked for beside the detector's.
export async function recognise(file, drawn = [], signal = undefined) {
  const ask = async (query) => {
    const told = await call("POST", at(gallery.name, "recognise"), { form: files([file]), signal, query: { unnamed: true, ...query } });
    if (told.answers[0].error) throw new Error(told.answers[0].error.message ?? told.answers[0].error);
    return told.answers[0];
  };
  const found = await ask({});
  const objects = [...found.regions, ...(found.unnamed ?? [])].map((each) => object(each));
  if (drawn.length) {
    const more = await ask({ regions: JSON.stringify(drawn) });
    const known = new Map([...more.regions, ...(more.unnamed ?? [])].map((each) => [keyOf(each.bbox), each]));
    for (const box of drawn) objects.push(object(known.get(keyOf(box)) ?? { bbox: box }, true));
  }
  return { answer: found.answer, width: found.width, height: found.height, objects };
}

// The nearest pictures of the gallery with their scores; `onPick(label)` where one is clicked.
export function nearest(matches, onPick) {
  return h("ul.near", { "aria-label": t("nearest") }, matches.map((match) => h("li", {},
    h("button", { type: "button", onclick: () => onPick(match.label), title: match.label,
      "aria-label": t("nearest.one", { label: match.label, score: score(match.score) }) },
    showPicture(h("img.thumb", { alt: "" }), itemPicture(gallery.name, match.id)),
    h("span.name", {}, match.label), " ", h("small", {}, score(match.score))))));
}
