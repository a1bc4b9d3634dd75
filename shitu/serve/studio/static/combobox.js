// An input for a label, with those that the gallery has to choose from: ARIA's combobox with a list.

import { at, get, itemPicture, showPicture } from "./api.js";
import { debounce, h } from "./dom.js";
import { gallery } from "./header.js";
import { t } from "./words.js";

const MOST = 8;
let numbers = 0;

// Returns the input's frame, with `.input`. `near()`: [{label, id}], offered by an arrow key as long as nothing is typed.
// `onPick(label)`: Enter, or a click on one of the list.
export function labelInput({ value = "", near = null, onPick = () => {}, hint = t("label.type"), name = "label" } = {}) {
  const id = `labels-${(numbers += 1)}`;
  const input = h("input", {
    role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": id, "aria-label": hint,
    placeholder: hint, autocomplete: "off", spellcheck: "false", maxlength: 500, name, ".value": value,
  });
  const list = h("ul.choices", { id, role: "listbox", "aria-label": t("labels"), popover: "manual" });
  const frame = h("div.combo", {}, input, list);
  frame.input = input;
  let options = [];
  let active = -1;
  let asked = 0;

  const close = () => {
    asked += 1;
    if (list.matches(":popover-open")) list.hidePopover();
    removeEventListener("scroll", place, { capture: true });
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  };

  const pick = (label) => {
    if (!label) return;
    input.value = label;
    close();
    onPick(label);
  };

  const mark = (place) => {
    active = place;
    [...list.children].forEach((each, number) => each.setAttribute("aria-selected", String(number === place)));
    if (place < 0) input.removeAttribute("aria-activedescendant");
    else {
      input.setAttribute("aria-activedescendant", list.children[place].id);
      list.children[place].scrollIntoView({ block: "nearest" });
    }
  };

  const open = (found) => {
    options = found;
    active = -1;
    list.replaceChildren(...found.map((each, place) => h("li", {
      id: `${id}-${place}`, role: "option", "aria-selected": "false",
      onpointerdown: (event) => { event.preventDefault(); pick(each.label); },
    },
    each.id === undefined ? h("span.thumb") : showPicture(h("img.thumb", { alt: "" }), itemPicture(gallery.name, each.id), 80),
    h("span.name", {}, each.label),
    each.count === undefined ? null : h("small", {}, t("pictures", { n: each.count })))));
    if (!found.length || !input.isConnected || document.activeElement !== input) { close(); return; }
    if (!list.matches(":popover-open")) {
      list.showPopover();
      addEventListener("scroll", place, { capture: true, passive: true });
    }
    place();
    input.setAttribute("aria-expanded", "true");
  };

  // Below the input, or above where there is more room; it follows while something scrolls.
  const place = (event) => {
    if (event?.target === list) return;
    const { left, bottom, top, width } = input.getBoundingClientRect();
    const below = innerHeight - bottom;
    list.style.left = `${left}px`;
    list.style.width = `${Math.max(width, 220)}px`;
    list.style.maxHeight = `${Math.min(Math.max(below, top) - 16, 360)}px`;
    list.style.top = below > 200 || below > top ? `${bottom + 4}px` : "auto";
    list.style.bottom = below > 200 || below > top ? "auto" : `${innerHeight - top + 4}px`;
  };

  const suggest = async () => {
    const text = input.value.trim();
    const number = (asked += 1);
    if (near && text === value.trim()) { open(near()); return; }
    try {
      const found = await get(at(gallery.name, "labels"), { text, limit: MOST, sort: "count" });
      if (number === asked) open(found.labels.map((each) => ({ label: each.label, count: each.count, id: each.newest })));
    } catch {
      close(); // typing goes on without suggestions
    }
  };

  input.addEventListener("input", debounce(suggest, 120));
  input.addEventListener("focus", () => { input.select(); if (!near) suggest(); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const count = list.matches(":popover-open") ? options.length : 0;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!count) { suggest(); return; }
      const step = event.key === "ArrowDown" ? 1 : -1;
      mark(active < 0 && step < 0 ? count - 1 : (active + step + count) % count);
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      pick(active >= 0 ? options[active].label : input.value.trim());
    } else if (event.key === "Escape" && count) {
      event.stopPropagation();
      event.preventDefault();
      close();
    }
  });
  return frame;
}
