// A photo with boxes over it, to click, to walk through with Tab, and to draw: by mouse, finger or arrow keys.

import { $, h } from "./dom.js";
import { t } from "./words.js";

const MOST_PIXELS = 2000; // of the longer side; boxes keep the photo's own pixels
const LEAST_DRAWN = 6; // pixels on the screen; a shorter stroke was a click

// What a picture file looks like upright, or null where this browser cannot decode it (HEIC, some TIFFs).
export async function decode(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}

// A small canvas of what lies in the box.
export function crop(bitmap, [x1, y1, x2, y2], size, width) {
  const canvas = h("canvas.thumb", { width: size, height: size, "aria-hidden": "true" });
  if (!bitmap) return canvas;
  const scale = bitmap.width / width;
  const [w, high] = [Math.max(x2 - x1, 1), Math.max(y2 - y1, 1)];
  const fit = size / Math.max(w, high);
  canvas.getContext("2d").drawImage(bitmap, x1 * scale, y1 * scale, w * scale, high * scale,
    (size - w * fit) / 2, (size - high * fit) / 2, w * fit, high * fit);
  return canvas;
}

export class Stage {
  // onPick(key): a box was chosen; onDrawn([x1, y1, x2, y2]): one was drawn, in pixels of the photo.
  constructor(element, { onPick, onDrawn, onMode = () => {} }) {
    this.element = element;
    this.onDrawn = onDrawn;
    this.onPick = onPick;
    this.onMode = onMode;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.layer = h("div.boxes", { role: "group", "aria-label": t("boxes") });
    element.replaceChildren(this.canvas, this.layer);
    this.width = this.height = 1;
    this.buttons = new Map();
    element.addEventListener("pointerdown", (event) => this.#press(event));
  }

  // width, height: those of the upright photo in the server's answer.
  show(bitmap, width, height, name) {
    [this.width, this.height] = [width, height];
    const shrink = Math.min(1, MOST_PIXELS / Math.max(width, height));
    this.canvas.width = Math.max(1, Math.round(width * shrink));
    this.canvas.height = Math.max(1, Math.round(height * shrink));
    const pen = this.canvas.getContext("2d");
    if (bitmap) {
      pen.imageSmoothingQuality = "high";
      pen.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    } else {
      pen.fillStyle = "#8884";
      pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    }
    this.layer.setAttribute("aria-label", t("boxes.of", { name }));
    this.leave();
  }

  // objects: [{key, box}]; what they are called is said by `dress`.
  set(objects) {
    this.buttons = new Map(objects.map((each) => {
      const button = h("button.box", { type: "button", onclick: () => this.onPick(each.key) }, h("span.tag", {}, h("b"), h("small")));
      this.#place(button, each.box);
      const area = (each.box[2] - each.box[0]) * (each.box[3] - each.box[1]);
      button.style.zIndex = String(1 + Math.round(800 * (1 - area / (this.width * this.height)))); // small ones on top
      if (each.box[1] < this.height * 0.07) button.classList.add("inside");
      if ((each.box[0] + each.box[2]) / 2 > this.width * 0.7) button.classList.add("right");
      return [each.key, button];
    }));
    this.layer.replaceChildren(...this.buttons.values());
  }

  dress(key, { name, score, title, kind, selected }) {
    const button = this.buttons.get(key);
    if (!button) return;
    $("b", button).textContent = name;
    $("small", button).textContent = score ? ` ${score}` : "";
    button.setAttribute("aria-label", title);
    button.setAttribute("aria-pressed", String(selected));
    for (const each of ["named", "unnamed", "drawn"]) button.classList.toggle(each, kind === each);
    button.classList.toggle("selected", selected);
  }

  focus(key) { this.buttons.get(key)?.focus(); }

  #place(element, [x1, y1, x2, y2]) {
    element.style.left = `${(100 * x1) / this.width}%`;
    element.style.top = `${(100 * y1) / this.height}%`;
    element.style.width = `${(100 * (x2 - x1)) / this.width}%`;
    element.style.height = `${(100 * (y2 - y1)) / this.height}%`;
  }

  // --- drawing

  get drawing() { return this.element.classList.contains("drawing"); }

  // With `keys`, a box in the middle that the arrow keys move and, with Shift, make larger or smaller.
  draw(keys = false) {
    this.leave();
    this.element.classList.add("drawing");
    this.onMode(true);
    if (keys) this.#keyboardBox();
  }

  leave() {
    this.element.classList.remove("drawing");
    this.rubber?.remove();
    this.rubber = null;
    this.onMode(false);
  }

  #point(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const inside = (value, most) => Math.min(Math.max(value, 0), most);
    return [inside(((event.clientX - left) / width) * this.width, this.width),
      inside(((event.clientY - top) / height) * this.height, this.height)];
  }

  #press(event) {
    const free = !event.target.closest("button.box");
    // A finger scrolls the page unless it was said that it draws.
    if (event.button !== 0 || !(this.drawing || (free && event.pointerType === "mouse")) || !this.canvas.width) return;
    if (event.target === this.rubber) return;
    event.preventDefault();
    const start = [event.clientX, event.clientY];
    const from = this.#point(event);
    this.rubber?.remove();
    const rubber = h("div.rubber");
    this.element.setPointerCapture(event.pointerId);
    let box = null;
    const move = (now) => {
      const to = this.#point(now);
      box = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
      if (!rubber.isConnected) this.element.append(rubber);
      this.#place(rubber, box);
    };
    const end = (now) => {
      this.element.removeEventListener("pointermove", move);
      this.element.removeEventListener("pointerup", end);
      this.element.removeEventListener("pointercancel", end);
      rubber.remove();
      const large = Math.abs(now.clientX - start[0]) >= LEAST_DRAWN && Math.abs(now.clientY - start[1]) >= LEAST_DRAWN;
      if (now.type === "pointerup" && box && large) this.#done(box);
    };
    this.element.addEventListener("pointermove", move);
    this.element.addEventListener("pointerup", end);
    this.element.addEventListener("pointercancel", end);
  }

  #done(box) {
    const [x1, y1] = [Math.floor(box[0]), Math.floor(box[1])];
    const [x2, y2] = [Math.max(x1 + 1, Math.ceil(box[2])), Math.max(y1 + 1, Math.ceil(box[3]))];
    this.leave();
    this.onDrawn([x1, y1, x2, y2]);
  }

  #keyboardBox() {
    const box = [this.width * 0.35, this.height * 0.35, this.width * 0.65, this.height * 0.65];
    const told = () => t("draw.keys", { x: Math.round(box[0]), y: Math.round(box[1]), w: Math.round(box[2] - box[0]), h: Math.round(box[3] - box[1]) });
    const rubber = h("div.rubber.keys", { tabindex: "0", role: "application", "aria-label": told() });
    this.rubber = rubber;
    const step = Math.max(this.width, this.height) / 100;
    rubber.addEventListener("keydown", (event) => {
      const along = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Enter") this.#done(box);
      else if (event.key === "Escape") this.leave();
      else if (!along) return;
      else {
        const by = along.map((each) => each * step * (event.altKey ? 0.2 : 1));
        const [most, least] = [[this.width, this.height], step];
        for (const axis of [0, 1]) {
          const size = box[axis + 2] - box[axis];
          if (event.shiftKey) box[axis + 2] = Math.min(most[axis], Math.max(box[axis] + least, box[axis + 2] + by[axis]));
          else {
            box[axis] = Math.min(Math.max(0, box[axis] + by[axis]), most[axis] - size);
            box[axis + 2] = box[axis] + size;
          }
        }
        this.#place(rubber, box);
        rubber.setAttribute("aria-label", told());
      }
      event.preventDefault();
      event.stopPropagation();
    });
    this.element.append(rubber);
    this.#place(rubber, box);
    rubber.focus();
  }
}
