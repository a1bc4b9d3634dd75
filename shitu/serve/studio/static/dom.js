// Makes elements, toasts and dialogues. Texts of strangers only ever become text, never HTML.

import { t } from "./words.js";

// h("button.quiet", {onclick, "aria-label": ...}, ...children): attributes by name, `on...` and `.property` as such.
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith(".")) element[key.slice(1)] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (selector, within = document) => within.querySelector(selector);

const TOAST_MS = 12000;

// A message at the foot of the page; `action`: {label, run}, offered as long as it stands.
export function toast(text, { action, kind = "" } = {}) {
  const box = h(`div.toast${kind ? `.${kind}` : ""}`, {}, h("span", {}, text));
  let timer;
  const leave = () => box.remove();
  const stay = () => clearTimeout(timer);
  const start = () => { stay(); timer = setTimeout(leave, TOAST_MS); };
  if (action) {
    box.append(h("button", { type: "button", onclick: () => { leave(); action.run(); } }, action.label));
  }
  box.append(h("button.close", { type: "button", "aria-label": t("close"), onclick: leave }, "×"));
  for (const event of ["mouseenter", "focusin"]) box.addEventListener(event, stay);
  for (const event of ["mouseleave", "focusout"]) box.addEventListener(event, start);
  const all = document.getElementById("toasts");
  all.append(box);
  while (all.children.length > 3) all.firstElementChild.remove();
  start();
  return box;
}

export const failed = (error) => {
  if (error?.name !== "AbortError") toast(error?.message || String(error), { kind: "bad" });
};

// Runs what a click asked for; what goes wrong is told, and the button waits meanwhile.
export async function busy(button, work) {
  if (button) { button.disabled = true; button.setAttribute("aria-busy", "true"); }
  try {
    return await work();
  } catch (error) {
    failed(error);
    return undefined;
  } finally {
    if (button) { button.disabled = false; button.removeAttribute("aria-busy"); }
  }
}

// A modal question. `body` elements stand in the form; resolves to FormData, or null where it was dropped.
export function ask(title, { body = [], yes = t("ok"), danger = false, text = "" } = {}) {
  return new Promise((resolve) => {
    const heading = h("h2", { id: "ask-title" }, title);
    const form = h("form", { method: "dialog" },
      heading, text && h("p", {}, text), ...body,
      h("div.row.end", {},
        h("button.quiet", { type: "button", onclick: () => dialog.close() }, t("cancel")),
        h(danger ? "button.danger" : "button.main", { type: "submit" }, yes)));
    const dialog = h("dialog", { "aria-labelledby": "ask-title" }, form);
    let given = null;
    form.addEventListener("submit", () => { given = new FormData(form); });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(given); });
    document.body.append(dialog);
    dialog.showModal();
    $("input, select", dialog)?.select?.();
  });
}

export function field(label, attributes) {
  return h("label.field", {}, h("span", {}, label), h("input", { autocomplete: "off", ...attributes }));
}

// A popover (a menu) below the button that opens it.
export function anchor(popover, button) {
  popover.addEventListener("beforetoggle", () => {
    const { right, bottom } = button.getBoundingClientRect();
    popover.style.top = `${bottom + 6}px`;
    popover.style.right = `${document.documentElement.clientWidth - right}px`;
  });
  addEventListener("scroll", () => popover.hidePopover(), { passive: true });
}

export function debounce(work, wait = 150) {
  let timer;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => work(...values), wait); };
}

// Files dropped anywhere on the page, or pasted, go to `take`.
export function takeFiles(take) {
  const files = (transfer) => [...(transfer?.files ?? [])];
  let depth = 0;
  const over = (on) => document.body.classList.toggle("over", on);
  addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; over(true); });
  addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) over(false); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(false);
    const found = files(event.dataTransfer);
    if (found.length) take(found);
  });
  addEventListener("paste", (event) => {
    const found = files(event.clipboardData);
    if (found.length) { event.preventDefault(); take(found); }
  });
}
