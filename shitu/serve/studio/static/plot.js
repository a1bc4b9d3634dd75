// Points on a canvas: wheel and buttons zoom, a drag selects or moves, arrow keys walk from point to point.

import { call, itemPicture, sized } from "./api.js";
import { gallery } from "./header.js";

const FEW = 600; // so many points in sight are shown as pictures
const SIDES = [22, 56]; // pixels of such a picture: so large that they would cover half of the plot
const NEAR = 14; // pixels from which the pointer is on a point
const style = getComputedStyle(document.documentElement);

export class Plot {
  // points: {id, label, x, y}, x and y from 0 to 1, y downwards. onHover(point | null, x, y), onPick(points).
  constructor(canvas, { onHover, onPick }) {
    Object.assign(this, { canvas, onHover, onPick, points: [], picked: [], mode: "lasso", only: null, at: null, path: [] });
    this.pictures = new Map();
    this.view = { x: 0, y: 0, scale: 1 };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => { if (!event.buttons) this.#hover(this.#nearest(event.offsetX, event.offsetY)); });
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#hover(null));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  set(points) {
    this.points = points;
    const labels = [...new Set(points.map((each) => each.label))].sort();
    this.hues = new Map(labels.map((label, place) => [label, (place * 137.5) % 360])); // the golden angle: neighbours differ
    this.only = null;
    this.at = null;
    this.pictures.clear();
    this.pick([]);
    this.fit();
  }

  colour(label) { return `hsl(${this.hues.get(label)} 62% 50%)`; }

  highlight(label) { this.only = label; this.draw(); }

  pick(points) {
    this.picked = points;
    this.chosen = new Set(points);
    this.draw();
    this.onPick(points);
  }

  fit() { this.view = { x: 0, y: 0, scale: 1 }; this.draw(); }

  zoom(by, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(Math.max(this.view.scale * by, 0.5), 60);
    const factor = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * factor, y: y - (y - this.view.y) * factor };
    this.draw();
  }

  #place({ x, y }) {
    const { clientWidth: w, clientHeight: high } = this.canvas;
    const margin = 32;
    return [this.view.x + (margin + x * (w - 2 * margin)) * this.view.scale, this.view.y + (margin + y * (high - 2 * margin)) * this.view.scale];
  }

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => { this.asked = 0; this.#paint(); });
  }

  #paint() {
    const { canvas } = this;
    const ratio = devicePixelRatio;
    const [w, high] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [w * ratio, high * ratio];
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const seen = this.points.map((point) => [point, ...this.#place(point)]).filter(([, x, y]) => x > -SIDES[1] && y > -SIDES[1] && x < w + SIDES[1] && y < high + SIDES[1]);
    const few = seen.length <= FEW;
    const side = Math.min(Math.max(Math.sqrt((w * high) / (2 * seen.length + 1)), SIDES[0]), SIDES[1]);
    for (const [point, x, y] of seen) {
      pen.globalAlpha = this.only === null || this.only === point.label ? 1 : 0.12;
      const image = few ? this.#picture(point) : null;
      pen.fillStyle = pen.strokeStyle = this.colour(point.label);
      if (image) this.#frame(pen, image, x, y, side);
      else { pen.beginPath(); pen.arc(x, y, few ? 7 : 4.5, 0, 7); pen.fill(); }
      if (this.chosen?.has(point) || point === this.at) {
        pen.lineWidth = 3;
        pen.strokeStyle = style.getPropertyValue(point === this.at ? "--accent" : "--ink");
        pen.beginPath();
        pen.arc(x, y, image ? side * 0.75 : 9, 0, 7);
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
    if (this.path.length > 1) {
      pen.strokeStyle = style.getPropertyValue("--accent");
      pen.lineWidth = 2;
      pen.setLineDash([6, 4]);
      pen.stroke(new Path2D(`M${this.path.map((each) => each.join(" ")).join("L")}Z`));
    }
  }

  #frame(pen, image, x, y, side) {
    const fit = side / Math.max(image.width, image.height);
    const [w, high] = [image.width * fit, image.height * fit];
    pen.fillRect(x - w / 2 - 2, y - high / 2 - 2, w + 4, high + 4);
    pen.drawImage(image, x - w / 2, y - high / 2, w, high);
  }

  #picture({ id }) {
    if (!this.pictures.has(id)) {
      this.pictures.set(id, null);
      call("GET", itemPicture(gallery.name, id), { raw: true, query: sized(96) })
        .then((answer) => answer.blob()).then(createImageBitmap)
        .then((image) => { this.pictures.set(id, image); this.draw(); }).catch(() => {}); // it stays a dot
    }
    return this.pictures.get(id);
  }

  #nearest(x, y) {
    let [best, least] = [null, NEAR ** 2];
    for (const point of this.points) {
      if (this.only !== null && this.only !== point.label) continue;
      const [px, py] = this.#place(point);
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least) [best, least] = [point, far];
    }
    return best;
  }

  #hover(point) {
    if (point !== this.at) { this.at = point; this.draw(); }
    this.onHover(point, ...(point ? this.#place(point) : []));
  }

  #press(event) {
    if (event.button !== 0) return;
    const { canvas } = this;
    canvas.setPointerCapture(event.pointerId);
    const [x0, y0] = [event.offsetX, event.offsetY];
    const before = { ...this.view };
    const panning = this.mode === "pan";
    this.path = [[x0, y0]];
    const move = (now) => {
      if (panning) this.view = { ...before, x: before.x + now.offsetX - x0, y: before.y + now.offsetY - y0 };
      else this.path.push([now.offsetX, now.offsetY]);
      this.draw();
    };
    const end = (now) => {
      for (const name of ["pointerup", "pointercancel"]) canvas.removeEventListener(name, end);
      canvas.removeEventListener("pointermove", move);
      const path = this.path;
      this.path = [];
      const click = Math.hypot(now.offsetX - x0, now.offsetY - y0) < 4;
      if (click) this.#toggle(this.#nearest(x0, y0));
      else if (!panning && now.type === "pointerup") this.#inside(path, now.shiftKey);
      this.draw();
    };
    canvas.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
  }

  #toggle(point) {
    if (!point) this.pick([]);
    else this.pick(this.chosen.has(point) ? this.picked.filter((each) => each !== point) : [...this.picked, point]);
  }

  #inside(path, more) {
    const shape = new Path2D(`M${path.map((each) => each.join(" ")).join("L")}Z`);
    const pen = new OffscreenCanvas(1, 1).getContext("2d");
    const found = this.points.filter((point) => (this.only === null || this.only === point.label) && pen.isPointInPath(shape, ...this.#place(point)));
    this.pick(more ? [...new Set([...this.picked, ...found])] : found);
  }

  // Arrow keys: the nearest point in that direction; Enter or a blank chooses it; Escape chooses none.
  #key(event) {
    const along = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (along && this.points.length) {
      const from = this.at ? this.#place(this.at) : [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
      let [best, least] = [null, Infinity];
      for (const point of this.points) {
        const [dx, dy] = this.#place(point).map((value, axis) => value - from[axis]);
        const ahead = dx * along[0] + dy * along[1];
        const cost = ahead + 2 * Math.abs(dx * along[1] - dy * along[0]);
        if (point !== this.at && ahead > 0.01 && cost < least) [best, least] = [point, cost];
      }
      if (best) this.#hover(best);
    } else if ((event.key === "Enter" || event.key === " ") && this.at) this.#toggle(this.at);
    else if (event.key === "Escape") this.pick([]);
    else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 1.3 : 1 / 1.3);
    else return;
    event.preventDefault();
  }
}
