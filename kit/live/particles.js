// Points on their way, on a canvas, by the browser's own clock. See particles.py.
//
// `frames` is (T, count, 2) float32; between two frames a point moves on a straight line. Nothing is drawn out of sight.
// `globalThis.__kitParticles` counts what was drawn, for tests.

const TRAIL_S = 0.45;  // how long a trail lasts [s of the film]
const TRAIL_POINTS = 8;
const REST_S = 1.5;  // at the end of a film
const TAU = 2 * Math.PI;

function floats(model, name) {
  const view = model.get(name);
  if (!view || !view.byteLength) return new Float32Array(0);
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

class Film {
  constructor(model) {
    this.frames = floats(model, "frames");
    this.guesses = floats(model, "guesses");
    this.count = model.get("count");
    this.length = this.count ? this.frames.length / (2 * this.count) : 0;
    this.last = Math.max(this.length - 1, 0);
    this.rate = this.last / model.get("seconds");  // frames a second
    const groups = model.get("groups");
    this.members = model.get("palette").map((_, g) => [...Array(this.count).keys()].filter((i) => groups.getUint8(i) === g));
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.position = this.still ? this.last : 0;  // in frames, fractional
    this.rested = 0;
    this.playing = this.last > 0 && !this.still;
  }

  advance(seconds, loop) {
    if (this.position < this.last) {
      this.position = Math.min(this.position + seconds * this.rate, this.last);
      this.rested = 0;
    } else if ((this.rested += seconds) > REST_S) {
      if (loop) this.position = 0; else this.playing = false;
      this.rested = 0;
    }
  }

  // Point i of `numbers` at a time, into `out`.
  at(numbers, i, position, out) {
    const here = Math.min(Math.max(Math.floor(position), 0), this.last), there = Math.min(here + 1, this.last);
    const share = Math.min(Math.max(position - here, 0), 1), a = 2 * (here * this.count + i), b = 2 * (there * this.count + i);
    out[0] = numbers[a] + share * (numbers[b] - numbers[a]);
    out[1] = numbers[a + 1] + share * (numbers[b + 1] - numbers[a + 1]);
  }
}

function ground(c, model, px, size) {
  const reach = model.get("reach"), names = model.get("names");
  c.fillStyle = "#ffffff";
  c.fillRect(0, 0, size, size);
  c.font = "11px sans-serif";
  c.lineWidth = 1;
  const stride = reach > 6 ? Math.ceil(reach / 3) : 1;
  for (let k = -Math.floor(reach / stride) * stride; k <= reach; k += stride) {
    c.strokeStyle = k ? "#eef0f3" : "#d5d9df";
    c.beginPath();
    c.moveTo(px(k), 0); c.lineTo(px(k), size);
    c.moveTo(0, px(k)); c.lineTo(size, px(k));
    c.stroke();
    c.fillStyle = "#5a6270";
    c.fillText(`${k}`, px(k) + 3, size - 5);
    if (k) c.fillText(`${k}`, 4, px(-k) - 4);
  }
  c.fillText(names[0], size - 8 - c.measureText(names[0]).width, size - 20);
  c.fillText(names[1], 8, 14);
  for (const [x, y, r] of model.get("spots")) {
    c.beginPath();
    c.arc(px(x), px(-y), r * size / (2 * reach), 0, TAU);
    c.fillStyle = "rgba(60, 70, 90, 0.06)";
    c.fill();
    c.strokeStyle = "rgba(60, 70, 90, 0.45)";
    c.setLineDash([3, 3]);
    c.stroke();
    c.setLineDash([]);
  }
}

function draw(c, model, film, size) {
  const reach = model.get("reach"), palette = model.get("palette");
  const px = (x) => size / 2 * (1 + x / reach);  // pass -y
  const point = [0, 0], long = film.rate * TRAIL_S;
  ground(c, model, px, size);
  c.lineCap = "round";
  film.members.forEach((members, g) => {
    c.strokeStyle = c.fillStyle = palette[g];
    for (let k = 0; k < TRAIL_POINTS; k++) {  // from the faint end to the point itself
      const from = film.position - long * (1 - k / TRAIL_POINTS);
      if (from + long / TRAIL_POINTS < 0) continue;
      c.globalAlpha = 0.06 + 0.34 * (k + 1) / TRAIL_POINTS;
      c.lineWidth = 0.5 + 1.1 * (k + 1) / TRAIL_POINTS;
      c.beginPath();
      for (const i of members) {
        film.at(film.frames, i, from, point);
        c.moveTo(px(point[0]), px(-point[1]));
        film.at(film.frames, i, from + long / TRAIL_POINTS, point);
        c.lineTo(px(point[0]), px(-point[1]));
      }
      c.stroke();
    }
    c.globalAlpha = 0.85;
    c.beginPath();
    for (const i of members) {
      film.at(film.frames, i, film.position, point);
      c.moveTo(px(point[0]) + 2, px(-point[1]));
      c.arc(px(point[0]), px(-point[1]), 2, 0, TAU);
    }
    c.fill();
  });
  c.globalAlpha = 0.55;
  c.strokeStyle = "#111111";
  c.lineWidth = 1;
  c.beginPath();
  for (let i = 0; i < film.count && film.guesses.length; i++) {
    film.at(film.guesses, i, film.position, point);
    const x = px(point[0]), y = px(-point[1]);
    c.moveTo(x - 2.5, y - 2.5); c.lineTo(x + 2.5, y + 2.5);
    c.moveTo(x - 2.5, y + 2.5); c.lineTo(x + 2.5, y - 2.5);
  }
  c.stroke();
  c.globalAlpha = 1;
}

function make(tag, parent, attributes = {}) {
  const element = document.createElement(tag);
  Object.assign(element, attributes);
  parent.appendChild(element);
  return element;
}

function render({ model, el }) {
  const box = make("div", el, { className: "kit-particles" }), size = model.get("size");
  const title = make("div", box, { className: "kit-particles-title" });
  const canvas = make("canvas", box);
  const row = make("div", box, { className: "kit-particles-row" });
  const button = make("button", row, { type: "button" });
  const slider = make("input", row, { type: "range", min: 0, step: "any", title: "time in the film" });
  const label = make("output", row);
  slider.setAttribute("aria-label", "time in the film");
  box.style.width = `${size}px`;
  const scale = devicePixelRatio || 1, context = canvas.getContext("2d");
  canvas.width = canvas.height = size * scale;
  canvas.style.width = canvas.style.height = `${size}px`;
  context.scale(scale, scale);
  const seen = (globalThis.__kitParticles ??= { drawn: 0 });
  let film, before = null, visible = true, stale = true, request = 0;

  function refresh() {
    film = new Film(model);
    slider.max = film.last;
    title.textContent = model.get("title");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${model.get("title")}: ${film.count} points moving in ${film.length} frames`);
    stale = true;
  }
  function paint() {
    const labels = model.get("labels");
    draw(context, model, film, size);
    slider.value = film.position;
    button.textContent = film.playing ? "Pause" : "Play";
    label.value = labels.length ? labels[Math.round(film.position)] : "";
    seen.drawn += 1;
    stale = false;
  }
  function tick(now) {
    const seconds = before === null ? 0 : Math.min((now - before) / 1000, 0.1);
    before = now;
    if (visible && film.playing) {
      film.advance(seconds, model.get("loop"));
      stale = true;
    }
    if (visible && stale) paint();
    request = requestAnimationFrame(tick);
  }
  button.onclick = () => {
    film.playing = !film.playing;
    if (film.playing && film.position >= film.last) film.position = 0;
    stale = true;
  };
  slider.oninput = () => {
    film.playing = false;
    film.position = Number(slider.value);
    stale = true;
  };
  const watch = new IntersectionObserver((entries) => { visible = entries[entries.length - 1].isIntersecting; });
  watch.observe(canvas);
  model.on("change:frames", refresh);
  model.on("change:title", () => { title.textContent = model.get("title"); });
  refresh();
  request = requestAnimationFrame(tick);
  return () => {
    cancelAnimationFrame(request);
    watch.disconnect();
    model.off("change:frames", refresh);
  };
}

export default { render };
